"""What the API server is told: status, Events, a Service's ports."""
