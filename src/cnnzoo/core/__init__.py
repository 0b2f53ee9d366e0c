"""What every package builds on: errors, paths, atomic files, locks, random draws, worker processes, progress."""
