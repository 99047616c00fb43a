"""Engines that decode through onelaunch."""
