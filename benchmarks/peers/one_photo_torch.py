"""A photo through a state dict with torch and torchvision, as tutorials do: NETWORK WEIGHTS PHOTO LABELS."""

import json
import sys

import torch
import torchvision
from PIL import Image
from torchvision import transforms

network, weights, photo, labels = sys.argv[1:5]
with open(labels) as file:
    int_to_class = json.load(file)["int_to_class"]
model = torchvision.models.get_model(network, weights=None, num_classes=len(int_to_class))
model.load_state_dict(torch.load(weights, weights_only=True))
model.eval()
prepare = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)
with torch.inference_mode():
    chances = model(prepare(Image.open(photo).convert("RGB"))[None]).softmax(1)[0]
best = int(chances.argmax())
print(int_to_class[str(best)], float(chances[best]))
