"""Word-level language models on Penn Treebank: published baselines, and smaller models learned with keras_iss."""
