"""`python -m collm.cli.child PID VARIABLES WORDS...`: the command line `collm WORDS...` that ends with process PID.

`VARIABLES` are environment variables as a JSON object; they are set before anything that reads them is imported.
"""

from __future__ import annotations

import json
import os
import runpy
import sys

from collm.process_group import end_with_parent

if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    os.environ.update(json.loads(sys.argv[2]))
    sys.argv[1:] = sys.argv[3:]
    runpy.run_module("collm", run_name="__main__", alter_sys=True)
