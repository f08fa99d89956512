"""Evidence capture: the frames that prove the findings, with comments, and without what must not leave the machine."""
