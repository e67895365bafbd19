"""Speed and scale: each module measures one thing and returns its rows."""
