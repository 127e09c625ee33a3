"""Model engines behind one port: `open_engine(model.json, settings)` and `Engine.complete(requests)`."""
