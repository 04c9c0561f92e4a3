"""Photos and their labels: opened from any form, checked, split. Needs no torch."""
