# Runs the python block of docs/checkpoint_format.md on a checkpoint and compares every tensor with
# the values that the C++ test wrote beside it: float64, one file per tensor. Checks the documented
# checksums of manifest and shards as well.
# usage: read_with_h5py.py FORMAT_PAGE CHECKPOINT EXPECTED
import hashlib
import json
import os
import re
import sys

import numpy

page, checkpoint, expected = sys.argv[1:]
with open(page) as file:
    text = file.read()
blocks = re.findall(r"```python\n(.*?)```", text, re.S)
assert len(blocks) == 1, f"{page} has {len(blocks)} python blocks"
names = {"directory": checkpoint}
exec(compile(blocks[0], page, "exec"), names)
tensors = names["tensors"]

count = 0
for folder, _, files in os.walk(expected):
    for name in files:
        path = os.path.join(folder, name)
        tensor = tensors.pop(os.path.relpath(path, expected))
        values = numpy.fromfile(path, dtype="<f8").reshape(tensor.shape)
        assert numpy.array_equal(tensor.astype("f8"), values), path
        count += 1

tail = int(re.search(r"head -c -(\d+) manifest.json", text).group(1))
with open(os.path.join(checkpoint, "manifest.json"), "rb") as file:
    manifest = file.read()
fields = json.loads(manifest)
assert fields["manifest_sha256"] == hashlib.sha256(manifest[:-tail]).hexdigest()
for shard in fields["shards"]:
    with open(os.path.join(checkpoint, shard["file"]), "rb") as file:
        assert shard["sha256"] == hashlib.sha256(file.read()).hexdigest(), shard["file"]
assert not tensors, f"unexpected tensors {sorted(tensors)}"
print(f"{count} tensors equal")
