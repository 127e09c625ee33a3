"""Fine-tuning of a base model on instruction-response pairs, with the loss on the response only."""
