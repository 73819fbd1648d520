"""Where data sets come from: folders, tables, COCO, Hugging Face."""
