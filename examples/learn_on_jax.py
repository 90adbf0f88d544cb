"""The encoder and decoder again, trained and stripped by JAX: only the backend differs."""

import os

os.environ["KERAS_BACKEND"] = "jax"  # before Keras is imported

import encoder_decoder

if __name__ == "__main__":
    encoder_decoder.main()
