"""The live page: an economy that is watched and steered in a browser while it runs."""
