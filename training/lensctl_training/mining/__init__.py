"""Web pages into instruction triplets (MagicLens, section 3.1), stage by stage.

pages     sources, warc, html, captions, language -> pages with image mentions, image store
fetch     images the input lacks, where that is allowed
groups    image_rules, image_table -> the usable pictures of each page
annotate  captioner, labels -> vectors, labels, captions
pairs     which two pictures, in which order
instruct  rule_writer (phrases, relations, wordings) or llm_writer (endpoint, prompts); filters
write     splits, shards, report, datasheet

`pipeline` describes it once; `engine` and `ray_engine` run it; `workspace` keeps what is made;
`funnel` counts. docs/mining.md is the guide.
"""
