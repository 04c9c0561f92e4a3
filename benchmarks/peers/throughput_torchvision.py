"""A folder of photos through torchvision and a DataLoader: NETWORK WEIGHTS FOLDER BATCH WORKERS."""

import sys
import time
from pathlib import Path

import torch
import torchvision
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

network, weights, folder, batch, workers = sys.argv[1:6]


class Photos(Dataset):
    def __init__(self):
        self.paths = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        self.prepare = transforms.Compose(
            [
                transforms.Resize(256),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
            ]
        )

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        return self.prepare(Image.open(self.paths[index]).convert("RGB"))


model = torchvision.models.get_model(network, weights=None)
model.load_state_dict(torch.load(weights, weights_only=True))
model.eval()
start = time.monotonic()
answers = []
with torch.inference_mode():
    for tensors in DataLoader(Photos(), batch_size=int(batch), num_workers=int(workers)):
        answers += model(tensors).argmax(1).tolist()
print(len(answers), time.monotonic() - start)
