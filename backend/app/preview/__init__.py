"""What would happen if: statements run, the caches that would come of them are shown, and all of it is rolled back."""
