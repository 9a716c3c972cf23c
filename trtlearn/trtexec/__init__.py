"""What a trtexec command does about INT8, with the lines of its source; its way to TensorRT 11."""

from . import command as command
from . import sources as sources
