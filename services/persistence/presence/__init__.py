"""Who is there: heartbeats, the clock they are judged by, and rivals under one id."""
