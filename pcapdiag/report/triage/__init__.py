"""What is said before there is a capture: words, and each form of them."""
