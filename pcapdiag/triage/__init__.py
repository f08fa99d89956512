"""What logs and a configuration tell before there is a capture, and how to make the capture that decides the rest."""
