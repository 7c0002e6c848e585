"""Writes text files as a C header of strings: embed.py OUT NAME=FILE…"""
import sys

with open(sys.argv[1], "w") as out:
    for pair in sys.argv[2:]:
        name, path = pair.split("=", 1)
        out.write(f"static const char {name}[] =")
        for line in open(path):
            escaped = line.rstrip("\n").replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
            out.write(f'\n\t"{escaped}\\n"')
        out.write(";\n")
