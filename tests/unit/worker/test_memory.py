"""Arrays of one piece, and tensors that share their memory."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from gradviz_cli.worker.graph import memory
from gradviz_cli.worker.graph.memory import ALIGNED, array_of, rooms, tensor_of

SHAPES = [(3, 3, 5, 7), (), (0, 4), (1,), (2, 9), (16,)]


@pytest.fixture(autouse=True)
def on_a_processor(monkeypatch):
    monkeypatch.setattr(memory, "on_gpu", lambda: False)


def test_each_has_its_shape_and_begins_where_a_kernel_may_read():
    found = rooms(SHAPES)
    assert [array.shape for array in found] == SHAPES
    assert all(array.dtype == np.float32 for array in found)
    assert not any(array.ctypes.data % ALIGNED for array in found if array.size)


def test_none_writes_into_another():
    found = rooms(SHAPES)
    for number, array in enumerate(found):
        array[...] = number
    assert all((array == number).all() for number, array in enumerate(found))


def test_none_asked_for_is_none():
    assert rooms([]) == []


def test_tensors_share_it_and_outlive_the_arrays():
    first, second = rooms([(4, 8), (16,)])
    first[...], second[...] = 1, 2
    tensors = tensor_of(first), tensor_of(second)
    second[3] = 7  # to see that it is the same memory: nobody writes to it any more
    assert tensors[1].numpy()[3] == 7
    assert array_of(tensors[0]).ctypes.data == first.ctypes.data
    del first, second
    again = [tf.ones([4, 8]) * 5 for _ in range(20)]
    assert (tensors[0].numpy() == 1).all() and (again[-1].numpy() == 5).all()
