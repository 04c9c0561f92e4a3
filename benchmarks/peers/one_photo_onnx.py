"""A photo through an ONNX file with onnxruntime, Pillow and numpy, as tutorials do: MODEL PHOTO LABELS."""

import json
import sys

import numpy as np
import onnxruntime as ort
from PIL import Image

model, photo, labels = sys.argv[1:4]
session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
with open(labels) as file:
    int_to_class = json.load(file)["int_to_class"]
image = Image.open(photo).convert("RGB").resize((224, 224), Image.Resampling.LANCZOS)
pixels = np.asarray(image, np.float32) / 255.0
mean, std = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
tensor = ((pixels - mean) / std).transpose(2, 0, 1)[np.newaxis]
logits = session.run(None, {session.get_inputs()[0].name: tensor})[0][0]
powers = np.exp(logits - logits.max())
best = int(powers.argmax())
print(int_to_class[str(best)], float(powers[best] / powers.sum()))
