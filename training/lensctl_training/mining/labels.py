"""The labels that *annotate* chooses from, zero-shot: broad kinds of pictures, our own list.

They serve to balance the yield and to say what it consists of, so that breadth matters and fine
distinctions do not.
"""

LABELS: tuple[str, ...] = (
    "a dialog window of a computer program", "a menu of a computer program",
    "a screenshot of a program", "an icon", "a logo", "a chart with lines", "a bar chart",
    "a scatter plot", "a histogram", "a heat map", "a diagram with boxes and arrows",
    "a flow chart", "a mathematical formula", "a table of numbers", "source code", "a map",
    "a satellite image", "a microscope image", "an X-ray image", "a brain scan",
    "a photo of the night sky", "a black and white pattern", "a chessboard", "a barcode",
    "a colour palette", "an abstract texture", "a gradient", "a drawing", "a cartoon",
    "a painting", "a 3D rendering", "handwriting", "a page of text", "a coin",
    "a portrait of a person", "a face", "a group of people", "a person doing sport", "a hand",
    "a crowd", "a child", "a cat", "a dog", "a bird", "a horse", "a fish", "an insect",
    "a butterfly", "a wild animal", "a farm animal", "a flower", "a tree", "a forest", "leaves",
    "a garden", "fruit", "vegetables", "a plate of food", "a cake", "a drink", "a mountain",
    "a beach", "the sea", "a lake", "a river", "a waterfall", "a desert", "snow", "the sky",
    "a sunset", "a field", "a road", "a street in a city", "a skyline", "a house", "a church",
    "a palace", "a bridge", "a tower", "a ruin", "a room inside a house", "a kitchen",
    "a bathroom", "furniture", "an office", "a shop", "a car", "a bicycle", "a motorcycle",
    "a train", "an aeroplane", "a ship", "a boat", "a tool", "a machine", "a computer", "a camera",
    "a telephone", "a musical instrument", "a toy", "clothes", "shoes", "jewellery", "a bottle",
    "a book", "a clock", "a sign with letters", "a flag", "a sculpture", "fire", "fireworks",
    "a statue", "a wall of bricks", "stones", "water drops", "a ball",
)  # fmt: skip
