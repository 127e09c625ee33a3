"""The small base model of the default run: its task family, pretraining text, training and benchmark.

Nothing else imports this room: to the rest of the library a base model is a folder.
"""
