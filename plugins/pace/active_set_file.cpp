// SPDX-License-Identifier: GPL-2.0-or-later
#include "active_set_file.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <regex>
#include <stdexcept>
#include <vector>

namespace lammps_otf {
namespace {

[[noreturn]] void refuse(const std::string &reason)
{
  throw std::runtime_error("not a usable active set: " + reason);
}

// Bounded reads from the file's bytes.
struct Bytes {
  std::vector<char> data;

  const char *at(std::size_t offset, std::size_t length) const
  {
    if (offset > data.size() || length > data.size() - offset) refuse("the file is cut short");
    return data.data() + offset;
  }

  template <typename T> T number(std::size_t offset) const
  {
    T value;
    std::memcpy(&value, at(offset, sizeof(T)), sizeof(T));
    return value;
  }
};

std::string capture(const std::string &text, const char *pattern, const std::string &entry)
{
  std::smatch match;
  if (!std::regex_search(text, match, std::regex(pattern)))
    refuse("entry '" + entry + "' has no valid .npy header");
  return match[1];
}

// One .npy array: magic, version, header length, a Python dictionary as text, then the numbers.
void check_array(const Bytes &file, std::size_t begin, std::size_t end, const std::string &entry)
{
  if (std::memcmp(file.at(begin, 6), "\x93NUMPY", 6) != 0)
    refuse("entry '" + entry + "' is not a NumPy array");
  if (file.number<std::uint8_t>(begin + 6) != 1)
    refuse("entry '" + entry + "' has an array format other than version 1");
  const std::size_t length = file.number<std::uint16_t>(begin + 8);
  const std::string header(file.at(begin + 10, length), length);

  const std::string type = capture(header, "'descr'\\s*:\\s*'([^']*)'", entry);
  if (type != "<f8")
    refuse("entry '" + entry + "' holds numbers of type " + type + ", not float64 (<f8)");
  if (capture(header, "'fortran_order'\\s*:\\s*(True|False)", entry) == "True")
    refuse("entry '" + entry +
           "' is stored in Fortran order, which would be read transposed; save it through "
           "numpy.ascontiguousarray");
  const std::string rows = capture(header, "'shape'\\s*:\\s*\\((\\d{1,9}),\\s*\\d{1,9}\\s*\\)", entry);
  const std::string columns = capture(header, "'shape'\\s*:\\s*\\(\\d{1,9},\\s*(\\d{1,9})\\s*\\)", entry);
  if (rows != columns || std::stoul(rows) == 0)
    refuse("entry '" + entry + "' is a " + rows + " x " + columns + " matrix, not a square one");

  const std::size_t count = std::stoul(rows) * std::stoul(columns);
  const std::size_t numbers = begin + 10 + length;
  if (numbers > end || (end - numbers) / sizeof(double) < count)
    refuse("entry '" + entry + "' is cut short");
  for (std::size_t k = 0; k < count; k++)
    if (!std::isfinite(file.number<double>(numbers + k * sizeof(double))))
      refuse("entry '" + entry + "' contains numbers that are not finite");
}

}    // namespace

void check_active_set_file(const std::string &path)
{
  std::ifstream stream(path, std::ios::binary);
  if (!stream) refuse("the file cannot be opened");
  Bytes file;
  file.data.assign(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());

  // The archive's last record stands at the very end and counts the entries.
  constexpr std::size_t end_length = 22;
  constexpr std::uint32_t end_record = 0x06054b50;
  if (file.data.size() < end_length ||
      file.number<std::uint32_t>(file.data.size() - end_length) != end_record)
    refuse("it is not an .npz archive, or it is cut short");
  const int expected = file.number<std::uint16_t>(file.data.size() - end_length + 10);

  // Local headers, each followed by the data of one entry.
  constexpr std::uint32_t local_header = 0x04034b50, directory = 0x02014b50;
  std::size_t offset = 0;
  int entries = 0;
  while (file.number<std::uint32_t>(offset) == local_header) {
    const auto method = file.number<std::uint16_t>(offset + 8);
    std::uint64_t size = file.number<std::uint32_t>(offset + 22);
    const std::size_t name_length = file.number<std::uint16_t>(offset + 26);
    const std::size_t extra_length = file.number<std::uint16_t>(offset + 28);
    const std::string name(file.at(offset + 30, name_length), name_length);
    const std::size_t extra = offset + 30 + name_length;
    // NumPy writes the size into a zip64 extra field (id 1, then the uncompressed size).
    if (size == 0xffffffffu && extra_length >= 12 && file.number<std::uint16_t>(extra) == 1)
      size = file.number<std::uint64_t>(extra + 4);
    if (method != 0) refuse("it is compressed; save it with numpy.savez");
    if (name.size() < 5 || name.compare(name.size() - 4, 4, ".npy") != 0)
      refuse("it contains '" + name + "', which is not an array");
    const std::size_t begin = extra + extra_length;
    file.at(begin, size);
    check_array(file, begin, begin + size, name.substr(0, name.size() - 4));
    offset = begin + size;
    entries++;
  }
  if (entries == 0 || entries != expected || file.number<std::uint32_t>(offset) != directory)
    refuse("the archive is damaged after " + std::to_string(entries) + " entries");
}

}    // namespace lammps_otf
