"""Image files: what they say of themselves, their pixels, and what can be left out of them."""
