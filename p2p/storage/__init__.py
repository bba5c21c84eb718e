"""Storage: where the tape is read from and where it arrives (`ports`), in folders and in memory."""
