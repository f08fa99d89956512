"""The few frames that say more than headers: their bytes are kept, and read by a library when all is over."""
