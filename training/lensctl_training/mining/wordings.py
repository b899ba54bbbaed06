"""How a relation is put into words: our own wordings, many for each relation.

A wording is a noun phrase ("the same with {t}"), which takes an opening and a closing, or a
sentence of its own. Slots are those of `relations.Relation`.
"""

OPENINGS: tuple[str, ...] = (
    "", "", "", "", "", "show me ", "find ", "show ", "now ", "I want ", "give me ", "bring up ",
    "I'm looking for ", "let me see ", "get me ", "can I see ", "I'd like to see ", "look up ",
)  # fmt: skip
CLOSINGS: tuple[str, ...] = ("", "", "", "", ", please", " from the same page", " on this page")
OPENINGS_OF_CLAUSES: tuple[str, ...] = (
    "", "", "show me ", "let me see ", "I'd like to see ", "I want to know ", "show ",
)  # fmt: skip
"""Those that go before "how ...", "what ...", "where ..."."""

PHRASES: dict[str, tuple[str, ...]] = {
    "before to after": (
        "the same picture after {op}", "this with {op} applied", "the result of {op} on this",
        "what {op} does to this", "this picture once {op} has been used",
        "the outcome of {op} here", "this, changed by {op}", "the version with {op}",
        "the look after {op}", "what comes out when {op} is applied to this",
        "this one run through {op}", "how this turns out with {op}",
        "the processed version, using {op}", "the effect of {op} on this very picture",
        "the after picture for {op}",
    ),
    "before to after, in words": (
        "the same picture, {t}", "this one with {t}", "what becomes of it: {t}",
        "the result here: {t}", "this, but {t}", "the changed version: {t}",
        "the picture afterwards: {t}", "how it ends up: {t}", "the same scene, now {t}",
        "the edited version of this: {t}", "what this turns into: {t}",
        "the outcome for this picture: {t}",
    ),
    "after to before": (
        "this picture before {op}", "the original of this, without {op}",
        "what this was before {op}", "the untouched picture behind this",
        "the starting point of this, before {op}", "this without {op}",
        "the source picture this was made from", "the unedited version of this",
        "how this looked before {op} was used", "the input that {op} was given to get this",
        "the same picture with {op} taken back", "the before picture that goes with this",
        "the plain picture this started from", "the original, {op} not yet applied",
    ),
    "after to before, unnamed": (
        "the untouched picture behind this", "the source picture this was made from",
        "the unedited version of this", "the before picture that goes with this",
        "the plain picture this started from", "the original of this", "the starting point of this",
        "this before anything was done to it", "the input that led to this",
        "how this looked at the outset", "what this was to begin with",
    ),
    "one thing differs": (
        "the same with {t} instead of {q}", "{t} rather than {q}",
        "the same case, but {t}, not {q}", "this with {q} changed to {t}",
        "the version with {t} in place of {q}", "the variant: {t} where this has {q}",
        "one like this, but with {t} instead of {q}", "the twin of this with {t}, not {q}",
        "what you get with {t} instead of {q}", "this, except that it is {t} and not {q}",
        "the same thing for {t} instead of {q}",
        "the one that differs from this only in having {t}, not {q}",
        "everything alike, but {t} for {q}",
        "the matching picture with {t}, where {q} stands here",
    ),
    "one thing is added": (
        "the same with {t}", "this, now with {t}", "the same again, only {t}",
        "this case, but {t}", "the variant of this that has {t}",
        "one like this with {t} on top", "this plus {t}",
        "the same situation with {t} as the difference", "what this becomes with {t}",
        "the version of this with {t}", "the same picture, this time {t}",
    ),
    "one thing is taken away": (
        "the same without {q}", "this, but not {q}", "the same minus {q}", "this with no {q}",
        "the plain version of this, without {q}", "one like this lacking {q}",
        "the variant of this that leaves out {q}", "the simpler version, no {q}",
    ),
    "its controls": (
        "the dialog where this is set", "the settings behind this", "the options for this",
        "the dialog that belongs to this", "the controls that produce this",
        "the window in which this is adjusted", "the place to change how this works",
        "the panel with this one's options", "the dialog you use to get this",
        "the knobs for this", "the configuration for what is shown here",
        "the settings dialog of the same thing", "the form to fill in before this happens",
        "the user interface for this", "the screen where I would tune this",
    ),
    "its controls, one of several": (
        "the settings for this: {t}", "the dialog for this, {t} part",
        "the options of this, under {t}", "the controls that go with this: {t}",
        "the dialog belonging to this that is about {t}", "the place where {t} is set for this",
        "the matching options, namely {t}", "the panel for this with {t}",
        "the window of the same tool for {t}", "the settings behind this, {t} in particular",
        "the dialog page of this for {t}",
    ),
    "its menu": (
        "the menu that leads to this", "the menu entry for this", "where this is in the menus",
        "the menu to open for this", "the menu this is reached from",
        "the path to this through the menus", "the menu with this in it",
        "the command for this in the menu", "the matching menu",
    ),
    "its menu, one of several": (
        "the menu for this: {t}", "the menu of this about {t}", "the matching menu, {t}",
        "the menu entry for this called {t}", "where this sits in the menus: {t}",
    ),
    "its context menu": (
        "the context menu of this", "the menu a right-click here opens",
        "the menu that pops up here", "what a right-click on this brings up",
        "the right-click menu for this",
        "the pop-up menu that belongs to this", "the commands offered on a right-click here",
    ),
    "its context menu, one of several": (
        "the context menu of this for {t}", "the right-click menu for this: {t}",
        "the pop-up menu of this about {t}",
    ),
    "its toolbox": (
        "where this is in the toolbox", "the icon of this in the toolbox",
        "the button that starts this", "the toolbox with this tool picked",
        "the place of this tool in the toolbox", "the tool's own icon",
        "the toolbox entry for this", "what to click in the toolbox to get this",
        "the toolbox position of the same tool",
    ),
    "its toolbox, one of several": (
        "the toolbox entry for this: {t}", "the icon for this, {t}",
        "the toolbar for this, with {t}", "the button for this: {t}",
    ),
    "its histogram": (
        "the histogram of this", "the histogram that belongs to this",
        "how the tones of this are spread", "the distribution of values in this",
        "the matching histogram",
    ),
    "its histogram, one of several": (
        "the histogram for this: {t}", "the histogram that goes with this, {t}",
        "the matching histogram: {t}", "the spread of values here: {t}",
    ),
    "its example": (
        "an example of what this does", "a picture made with this",
        "the effect of these settings", "this at work on a picture",
        "what this is good for, in a picture", "a sample of what it does",
        "the result one gets from this", "an illustration of its effect", "this in use",
        "a picture to which this was applied", "the demonstration that goes with this",
        "what happens to a picture with this", "its effect on a real picture",
    ),
    "its example, one of several": (
        "an example of this: {t}", "what this does, with {t}", "this in use: {t}",
        "a picture made with this: {t}", "the effect of this, {t}",
        "the sample for this with {t}", "this at work, {t}", "the illustration of this for {t}",
        "what comes of this: {t}",
    ),
    "its counterpart": (
        "the {t} in place of the {q}", "the {t}, not the {q}", "the counterpart of {this}: {t}",
        "the {t} that goes with {this}", "{this} swapped for the {t}",
        "the same kind of picture for the {t}", "what {this} is for the {q}, but for the {t}",
        "the sister picture: {t} rather than {q}", "the {t} from the same set as {this}",
        "another one like {this}, for the {t}", "the corresponding picture for the {t}",
        "the {t} to compare with the {q}", "the alternative to the {q}: {t}",
    ),
    "another section": (
        "the same for {t}", "what this is like for {t}", "the corresponding picture for {t}",
        "this done with {t}", "{t} in place of what is shown here", "the {t} version of this",
        "how {t} compares with this", "the same subject under {t}", "the equivalent for {t}",
        "one step aside from this: {t}",
        "the picture that shows {t} as this one shows its own case",
        "the counterpart of this for {t}", "the same idea, but for {t}", "this treated with {t}",
        "the parallel case to this: {t}",
    ),
    "another section, both named": (
        "the same for {t} instead of {q}", "{t} where this shows {q}", "{t} rather than {q}",
        "this switched from {q} to {t}", "what {t} gives, as this shows {q}", "not {q} but {t}",
        "the {t} picture to set beside this one of {q}", "{t}, to compare with {q}",
        "the matching picture for {t} in place of {q}", "the case of {t}, this being {q}",
        "the alternative to {q}, namely {t}",
    ),
    "its case": (
        "the same for {t} instead of {q}", "the one with {t} where this has {q}", "{t}, not {q}",
        "this with {t} in place of {q}", "the variant with {t} rather than {q}",
        "the picture of {t} that goes with this one of {q}",
        "the other case: {t} instead of {q}", "the same set's picture of {t}",
        "the companion of this for {t}", "what this is like in the case of {t}",
        "the same thing, but {t} rather than {q}", "the one that stands beside this, {t}",
        "one more of this kind: {t} in place of {q}", "{t} as opposed to {q}",
        "the picture to compare with this: {t}",
    ),
    "the next one": (
        "the next step after this: {t}", "what follows this: {t}", "the picture after this, {t}",
        "one further on: {t}", "how it goes on from here: {t}", "the step that comes next: {t}",
        "this continued: {t}", "the following stage, {t}", "what comes next here: {t}",
        "the next stage of this: {t}",
    ),
    "the one before": (
        "the step before this: {t}", "what came before this: {t}",
        "the picture just before, {t}", "one step back: {t}", "how it was before this: {t}",
        "the previous stage, {t}", "what leads up to this: {t}",
        "the stage before this one: {t}",
    ),
    "without colour": (
        "this in black and white", "the same without colour", "a grey version of this",
        "this picture in shades of grey", "the same scene, desaturated",
        "this drained of its colours",
    ),
    "brighter": (
        "a brighter version of this", "the same, lighter", "this with more light",
        "the same picture, brightened", "this one, only less dark",
    ),
    "darker": (
        "a darker version of this", "the same, darker", "this with less light",
        "the same picture, dimmed", "this one, only not so bright",
    ),
    "softer": (
        "a softer version of this", "the same, smoother", "this with less fine detail",
        "the same picture, blurred", "this one, but not so crisp",
    ),
    "sharper": (
        "a sharper version of this", "the same with more detail", "this, crisper",
        "the same picture, in more detail", "this one, but with harder edges",
    ),
}  # fmt: skip

SENTENCES: dict[str, tuple[str, ...]] = {
    "before to after": (
        "apply {op} to it", "what would {op} make of this?", "use {op} on this picture",
        "what does it look like after {op}?", "run {op} on it", "and after {op}?",
        "how does this come out with {op}?", "do {op} here", "change this with {op}",
        "which picture is this one after {op}?",
    ),
    "before to after, in words": (
        "make it so: {t}", "what does it look like {t}?", "and now, {t}?", "turn this into: {t}",
        "which one is this picture, {t}?",
    ),
    "after to before": (
        "undo {op}", "take {op} away again", "what was it like before {op}?",
        "remove {op} from this", "which picture was this made from?",
        "what did this look like at first?", "go back to the original",
        "what was here before {op} was applied?", "revert this",
    ),
    "after to before, unnamed": (
        "which picture was this made from?", "what did this look like at first?",
        "go back to the original", "revert this", "undo what was done here",
        "what was here before?",
    ),
    "one thing differs": (
        "change {q} to {t}", "what if it were {t} instead of {q}?", "swap {q} for {t}",
        "replace {q} by {t}", "and with {t} instead of {q}?", "make it {t} rather than {q}",
        "how does it look with {t} instead of {q}?", "how would {t} differ from {q} here?",
    ),
    "one thing is added": (
        "what if it had {t}?", "and with {t}?", "add {t} to this", "how is it with {t}?",
        "what changes here with {t}?",
    ),
    "one thing is taken away": (
        "what if {q} were gone?", "and without {q}?", "drop {q}", "leave out {q}", "remove {q}",
    ),
    "its controls": (
        "where is this set?", "how do I set this up?", "which dialog makes this?",
        "what options does this have?", "where can I adjust this?",
        "which settings does this take?", "where would I change that?",
        "how is this configured?", "what can be adjusted here?",
    ),
    "its controls, one of several": (
        "where is {t} set for this?", "which dialog of this has {t}?",
        "what are its options for {t}?", "where do I find {t} among the settings of this?",
    ),
    "its menu": (
        "where do I find this in the menus?", "which menu has this?",
        "how do I get there by menu?", "which menu do I open to get this?",
    ),
    "its toolbox": (
        "which icon stands for this?", "where is it in the toolbox?",
        "which tool is this, in the toolbox?", "which button do I press for this?",
    ),
    "its example": (
        "what does this do to a picture?", "what comes out of this?", "what is this used for?",
        "how does the result look?", "what will I get with these settings?", "show this in use",
        "what does it look like when it is applied?",
        "apply these settings and show the picture",
    ),
    "its example, one of several": (
        "what does this do with {t}?", "what comes out of this for {t}?",
        "how does this look with {t}?",
    ),
    "its counterpart": (
        "swap the {q} for the {t}", "and the {t}?", "what about the {t} instead?",
        "which picture shows the {t} the way {this} shows the {q}?",
        "replace the {q} by the {t}", "compare {this} with the {t}",
        "move on from the {q} to the {t}",
    ),
    "its case": (
        "and {t}?", "what about {t} instead of {q}?", "now take {t} rather than {q}",
        "swap {q} for {t}", "which one has {t} instead of {q}?", "change {q} to {t}",
        "how is it with {t}?", "what if it is {t}, not {q}?",
    ),
    "another section": (
        "and for {t}?", "what about {t}?", "what does {t} give instead?", "do the same with {t}",
        "how does {t} look by comparison?", "try {t} instead", "switch this to {t}",
    ),
    "another section, both named": (
        "swap {q} for {t}", "and if it were {t} rather than {q}?", "use {t}, not {q}",
        "how does {t} differ from {q}?", "change from {q} to {t}",
        "what about {t} instead of {q}?",
    ),
    "the next one": (
        "go on to the next step: {t}", "and then, {t}?", "continue: {t}",
    ),
    "the one before": (
        "go back a step: {t}", "step back to {t}", "and before that, {t}?",
    ),
    "without colour": (
        "make it grey", "take the colour out", "what is it like without colour?",
    ),
    "brighter": (
        "make it brighter", "lighten this", "add more light",
    ),
    "darker": (
        "make it darker", "darken this", "take away some light",
    ),
    "softer": (
        "blur this", "make it softer", "smooth it",
    ),
    "sharper": (
        "sharpen this", "make it crisper", "bring out more detail",
    ),
}  # fmt: skip
