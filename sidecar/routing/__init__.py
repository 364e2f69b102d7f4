"""What each port should lead to: claims, endpoints, weights. Pure."""
