//go:build tools

// Package tools names what is built from here, so that `go mod tidy` keeps go.mod and go.sum complete.
// To move to another version: edit go.mod, then run `go mod tidy` in this folder.
package tools

import _ "sigs.k8s.io/kwok/cmd/kwok"
