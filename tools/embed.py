"""Writes files as C. embed.py OUT NAME=FILE…: text, a header of strings.
embed.py --bytes OUT NAME=FILE…: anything, a source of NAME[] and NAME_size."""
import sys


def write_text(out, name, path):
    out.write(f"static const char {name}[] =")
    for line in open(path):
        escaped = line.rstrip("\n").replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
        out.write(f'\n\t"{escaped}\\n"')
    out.write(";\n")


def write_bytes(out, name, path):
    data = open(path, "rb").read()
    # A string, which compilers read a hundred times faster than a list of numbers.
    out.write(f"extern const unsigned char {name}[];\nextern const unsigned long {name}_size;\n"
              f"const unsigned long {name}_size = {len(data)}ul;\nconst unsigned char {name}[] =")
    for at in range(0, len(data), 32):
        escaped = "".join(f"\\{byte:03o}" for byte in data[at:at + 32])
        out.write(f'\n\t"{escaped}"')
    out.write(";\n")


arguments = sys.argv[1:]
write = write_text
if arguments[0] == "--bytes":
    write = write_bytes
    arguments = arguments[1:]
with open(arguments[0], "w") as file:
    for pair in arguments[1:]:
        write(file, *pair.split("=", 1))
