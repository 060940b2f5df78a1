"""A real Kubernetes control plane on this machine, without Docker: for trying AtlHyper and for its tests.

etcd, kube-apiserver, kube-controller-manager and kube-scheduler are the real programs. The kubelets are
simulated by kwok: nodes are Ready, pods run, fail, restart and have logs, but no container is started.
"""
