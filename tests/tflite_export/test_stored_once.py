"""A file keeps its meaning when what's equal in it is stored once."""

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from keras import layers

from tflite_export.lower.build import build
from tflite_export.lower.signatures import ordered
from tflite_export.signature import as_functional
from tflite_export.stored_once import from_bytes, stored_once, to_bytes


@pytest.fixture(params=[None, "float16", "dynamic_int8"])
def data(request):
    stack = [layers.Input((None, 8)), layers.LSTM(64, return_sequences=True), layers.GRU(64), layers.Dense(3)]
    functional = as_functional(keras.Sequential(stack))
    return build(functional, batch_size=1, time_steps=None, quantize=request.param, streaming=True)


def test_file_computes_the_same(data):
    outputs = []
    for version in (data, stored_once(data)):
        interpreter = Interpreter(model_content=version)
        states = interpreter.get_signature_runner("initial_state")()
        x = np.random.default_rng(0).normal(size=(1, 9, 8)).astype("float32")
        outputs.append(interpreter.get_signature_runner("sequence")(input_layer=x, **states))
    for name, y in outputs[0].items():
        np.testing.assert_array_equal(y, outputs[1][name])


def test_no_constant_and_no_scale_is_stored_twice(data):
    again = stored_once(data)
    assert len(again) <= len(data) + 256
    model = schema.Model.GetRootAs(again, 0)
    buffers = [model.Buffers(i) for i in range(model.BuffersLength())]
    large = [bytes(b.DataAsNumpy()) for b in buffers if b.DataLength() > 64]
    assert len(large) == len(set(large))
    places, scales = set(), set()
    for g in range(model.SubgraphsLength()):
        graph = model.Subgraphs(g)
        for i in range(graph.TensorsLength()):
            quantization = graph.Tensors(i).Quantization()
            if quantization is not None and quantization.ScaleLength() > 1:
                places.add(quantization._tab.Pos)
                scales.add(bytes(quantization.ScaleAsNumpy()))
    assert len(places) == len(scales)


def test_constants_start_where_the_schema_asks(data):
    model = schema.Model.GetRootAs(stored_once(data), 0)
    for i in range(model.BuffersLength()):
        if model.Buffers(i).DataLength():
            table = model.Buffers(i)._tab
            assert table.Vector(table.Offset(4)) % 16 == 0


def test_objects_and_bytes_are_the_same_file(data):
    assert to_bytes(from_bytes(to_bytes(from_bytes(data)))) == to_bytes(from_bytes(data))


def test_names_sort_as_they_stand():
    functions = {"step": 1, "sequence": 2, "initial_state": 3}
    assert list(ordered(functions)) == sorted(ordered(functions))
    assert list(ordered(functions).values()) == [1, 2, 3]
