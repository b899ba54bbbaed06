"""Real photos, the ones inside the scikit-image wheel, as JPEGs with dates, cameras and places."""

from pathlib import Path

import skimage
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

NAMES = ("coffee", "chelsea", "astronaut", "rocket", "brick", "coins", "camera", "moon", "grass")
LISBON = (38.7139, -9.1394)
PARIS = (48.8584, 2.2945)


def write_sample_photos(folder: Path) -> Path:
    """Nine photos: of 2018 to 2020, by two cameras, in Lisbon, in Paris and nowhere."""
    folder.mkdir(parents=True)
    data = Path(skimage.__file__).parent / "data"
    for number, name in enumerate(NAMES):
        (found,) = data.glob(f"{name}.*")
        exif = Image.Exif()
        exif[0x010F], exif[0x0110] = ("FUJIFILM", "X-T4") if number % 2 else ("Canon", "EOS R6")
        exif.get_ifd(0x8769)[0x9003] = f"{2018 + number % 3}:05:1{number} 12:30:00"
        if place := (LISBON, PARIS, None)[number % 3]:
            exif.get_ifd(0x8825).update(_position(*place))
        Image.open(found).convert("RGB").save(folder / f"{name}.jpg", exif=exif)
    return folder


def _position(latitude: float, longitude: float) -> dict[int, object]:
    return {
        1: "N" if latitude > 0 else "S",
        2: _degrees(abs(latitude)),
        3: "E" if longitude > 0 else "W",
        4: _degrees(abs(longitude)),
    }


def _degrees(value: float) -> tuple[IFDRational, ...]:
    minutes = value % 1 * 60
    return (
        IFDRational(int(value)),
        IFDRational(int(minutes)),
        IFDRational(round(minutes % 1 * 6000), 100),
    )
