"""Image captions on Flickr8k: NeuralTalk's language model, and compact H-LSTMs grown and pruned with keras_iss."""
