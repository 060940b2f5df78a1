"""HTTP itself: what a request may be, how an answer is sent, and what is said when there is none."""
