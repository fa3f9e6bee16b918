"""Call one function in this fresh process and print, as the last line, what it returns as JSON."""

import importlib
import json
import sys

if __name__ == "__main__":
    module, function, arguments = sys.argv[1:]
    found = getattr(importlib.import_module(module), function)(**json.loads(arguments))
    print(json.dumps(found or {}))
