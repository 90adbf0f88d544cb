"""Question answering on SQuAD with BiDAF: train it, make it smaller, export it, ask it."""
