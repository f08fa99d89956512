"""What a night found, told: metrics and messages."""
