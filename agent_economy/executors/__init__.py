"""How a model runs under an allocation."""
