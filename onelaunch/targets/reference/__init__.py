"""The reference target: programs run in Python, in any legal order, with every access checked in debug mode."""
