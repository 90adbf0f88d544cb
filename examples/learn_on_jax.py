"""The Functional example on JAX: only the backend differs. The export uses TensorFlow and the same weights."""

import os

os.environ["KERAS_BACKEND"] = "jax"  # before Keras is imported

import learn_functional

if __name__ == "__main__":
    learn_functional.main()
