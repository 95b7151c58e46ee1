"""Shows how often each operation answered with which status, and fails if one never succeeded.

usage: answers.py DOCUMENT ANSWERS...

Every other check can pass even if all answers are errors; this one cannot.
"""

import collections
import json
import sys

with open(sys.argv[1]) as file:
    paths = json.load(file)["paths"]
answers = collections.defaultdict(collections.Counter)
for name in sys.argv[2:]:
    with open(name) as file:
        for operation, status, count in json.load(file):
            answers[operation][status] += count

idle = []
for path in paths.values():
    for method in path.values():
        name = method["operationId"]
        seen = answers[name]
        unseen = [status for status in method["responses"] if int(status) not in seen]
        print(f"{name:20}", *(f"{status}:{count}" for status, count in sorted(seen.items())), "not seen:", *unseen)
        if not any(200 <= status < 300 for status in seen):
            idle.append(name)
if idle:
    sys.exit(f"never succeeded: {', '.join(idle)}")
