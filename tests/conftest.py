"""What all tests share: a quiet TensorFlow that leaves the home folder alone."""

import atexit
import os
import tempfile

_keras_home = tempfile.TemporaryDirectory(prefix="gradviz-tests-")
atexit.register(_keras_home.cleanup)

# Importing TensorFlow writes `keras.json` into KERAS_HOME, by default into the user's home.
os.environ["KERAS_HOME"] = _keras_home.name
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
