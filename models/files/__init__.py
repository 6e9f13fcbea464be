"""The one reader of files of rows, for scoring, training, export and augmentation.

reader.py     opens a file and finds its form
parts.py      the files of a folder
sources.py    its bytes, decompressed
encodings.py  its text, as UTF-8
json_rows.py, csv_rows.py, tables.py   cut it into records, one for each row
rows.py       checks a record: what a row is
cells.py      an entity written as text, as in a cell of CSV
"""
