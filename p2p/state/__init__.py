"""What this machine remembers: identity, contacts, receipts, audit log, unfinished transfers."""
