"""A transfer: its state across sessions, and the two halves of a byte's walk.

`sender.py` and `recipient.py` own what outlives a connection; `driver.py` runs one session,
`send.py` and `receive.py` are its two halves; `outcome.py` says how it ended, `rates.py` how fast
it goes.
"""
