/*
 * File operations that Node's fs has not, or has only with a loss: times to the nanosecond, special
 * files, extended attributes, holes. Any thread; short system calls.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "addon.h"

namespace stpd {

/* A path as a Buffer of any bytes, or as text. */
static std::string pathOf(const Napi::CallbackInfo& info) {
  std::string path;
  if (info[0].IsBuffer()) {
    auto bytes = info[0].As<Napi::Buffer<char>>();
    path.assign(bytes.Data(), bytes.Length());
  } else {
    path = info[0].ToString().Utf8Value();
  }
  if (path.find('\0') != std::string::npos) {
    throwRangeError(info.Env(), "the path contains a zero byte");
  }
  return path;
}

/* setTimesNs(path, mtimeNs, followSymlink): the access time is left alone. */
static void SetTimesNs(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const std::string path = pathOf(info);
  bool lossless = false;
  const int64_t ns = info[1].As<Napi::BigInt>().Int64Value(&lossless);
  if (!lossless) throwRangeError(env, "the time has more than 64 bits");
  int64_t seconds = ns / 1000000000, rest = ns % 1000000000;
  if (rest < 0) {
    rest += 1000000000;
    seconds--;
  }
  const timespec times[2] = {{0, UTIME_OMIT}, {time_t(seconds), long(rest)}};
  const int flags = info[2].ToBoolean().Value() ? 0 : AT_SYMLINK_NOFOLLOW;
  if (utimensat(AT_FDCWD, path.c_str(), times, flags) != 0) {
    throwSystemError(env, errno, "utimensat", path);
  }
}

/*
 * Where syncfs(2) of the kernel says nothing about the disk of another: FUSE, NFS, SMB (old and new),
 * 9P, Ceph. See linux/magic.h.
 */
static bool isElsewhere(int fd) {
  struct statfs fs;
  if (fstatfs(fd, &fs) != 0) return true;
  switch (uint32_t(fs.f_type)) {
    case 0x65735546: case 0x6969: case 0x517b: case 0xff534d42: case 0xfe534d42:
    case 0x01021997: case 0x00c36400:
      return true;
    default:
      return false;
  }
}

/*
 * syncFiles(fds): what fsync(2) of each promises, for one commit and one flush of the disk. Data goes
 * first, with each file's own errors; then syncfs(2) takes their metadata together. All are of one
 * file system. Returns an error number for each, 0 for those that the disk has.
 */
static Napi::Value SyncFiles(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const auto fds = info[0].As<Napi::Array>();
  const uint32_t count = fds.Length();
  Napi::Array errors = Napi::Array::New(env, count);
  std::vector<int> numbers(count);
  for (uint32_t i = 0; i < count; i++) numbers[i] = fds.Get(i).ToNumber().Int32Value();
  const bool isOneByOne = count > 0 && isElsewhere(numbers[0]);
  if (!isOneByOne) {
    for (int fd : numbers) sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE);
  }
  const unsigned wait =
      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
  std::vector<int> failed(count, 0);
  int any = -1;
  for (uint32_t i = 0; i < count; i++) {
    const int fd = numbers[i];
    if ((isOneByOne ? fsync(fd) : sync_file_range(fd, 0, 0, wait)) != 0) failed[i] = errno;
    else any = fd;
  }
  const int all = !isOneByOne && any >= 0 && syncfs(any) != 0 ? errno : 0;
  for (uint32_t i = 0; i < count; i++) errors.Set(i, failed[i] != 0 ? failed[i] : all);
  return errors;
}

/* syncFileSystem(fd): syncfs(2). Since Linux 5.8 it tells of writes that failed. */
static void SyncFileSystem(const Napi::CallbackInfo& info) {
  const int fd = int(wholeNumber(info, 0, "fd", INT_MAX));
  if (syncfs(fd) != 0) throwSystemError(info.Env(), errno, "syncfs", "");
}

/* makeNode(path, mode, major, minor): mknod; the device number counts for devices only. */
static void MakeNode(const Napi::CallbackInfo& info) {
  const std::string path = pathOf(info);
  const auto mode = mode_t(wholeNumber(info, 1, "mode", 0177777));
  const auto major = unsigned(wholeNumber(info, 2, "major", UINT32_MAX));
  const auto minor = unsigned(wholeNumber(info, 3, "minor", UINT32_MAX));
  if (mknod(path.c_str(), mode, makedev(major, minor)) != 0) {
    throwSystemError(info.Env(), errno, "mknod", path);
  }
}

/* An open descriptor, or a name that is not followed: lookups start at an open directory. */
struct XattrPlace {
  int fd = -1;
  std::string path;
  explicit XattrPlace(const Napi::CallbackInfo& info) {
    if (info[0].IsNumber()) fd = int(wholeNumber(info, 0, "fd", INT32_MAX));
    else path = pathOf(info);
  }
  ssize_t list(char* into, size_t bytes) const {
    return fd >= 0 ? flistxattr(fd, into, bytes) : llistxattr(path.c_str(), into, bytes);
  }
  ssize_t get(const char* name, void* into, size_t bytes) const {
    return fd >= 0 ? fgetxattr(fd, name, into, bytes) : lgetxattr(path.c_str(), name, into, bytes);
  }
  int set(const char* name, const void* value, size_t bytes) const {
    return fd >= 0 ? fsetxattr(fd, name, value, bytes, 0)
                   : lsetxattr(path.c_str(), name, value, bytes, 0);
  }
};

/* The kernel's own bounds (XATTR_LIST_MAX, XATTR_SIZE_MAX): no list or value is longer. A list
 * that grows between two calls cannot make us ask again for ever. */
constexpr size_t kXattrBytes = 65536;

/*
 * getXattrs(fdOrPath, bytesMax): null without any, else [name, value, name, value, ...] as Buffers.
 * E2BIG if names and values are more than bytesMax together. An attribute that vanished meanwhile is
 * left out; so is one that may not be read.
 */
static Napi::Value GetXattrs(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const XattrPlace place(info);
  const size_t bytesMax = size_t(wholeNumber(info, 1, "bytesMax", INT32_MAX));
  static thread_local std::vector<char> names(kXattrBytes), value(kXattrBytes);
  const ssize_t listed = place.list(names.data(), names.size());
  if (listed < 0) {
    if (errno == ENOTSUP || errno == ENOSYS) return env.Null();
    throwSystemError(env, errno, "listxattr", place.path);
  }
  if (listed == 0) return env.Null();
  Napi::Array found = Napi::Array::New(env);
  uint32_t count = 0;
  size_t total = 0;
  /* A list that does not end in a zero is cut at its last one. */
  for (const char *at = names.data(), *end = at + listed; at < end;) {
    const char* stop = static_cast<const char*>(memchr(at, 0, size_t(end - at)));
    if (stop == nullptr) break;
    const size_t nameBytes = size_t(stop - at);
    if (nameBytes > 0) {
      const ssize_t bytes = place.get(at, value.data(), value.size());
      if (bytes < 0 && errno != ENODATA && errno != EPERM && errno != EACCES && errno != ENOTSUP) {
        throwSystemError(env, errno, "getxattr", place.path);
      }
      if (bytes >= 0) {
        total += nameBytes + size_t(bytes);
        if (total > bytesMax) throwSystemError(env, E2BIG, "getxattr", place.path);
        found.Set(count++, Napi::Buffer<char>::Copy(env, at, nameBytes));
        found.Set(count++, Napi::Buffer<char>::Copy(env, value.data(), size_t(bytes)));
      }
    }
    at = stop + 1;
  }
  if (count == 0) return env.Null();
  return found;
}

/* setXattr(fdOrPath, name, value): name and value as Buffers. */
static void SetXattr(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const XattrPlace place(info);
  auto nameBytes = info[1].As<Napi::Buffer<char>>();
  auto value = info[2].As<Napi::Buffer<char>>();
  const std::string name(nameBytes.Data(), nameBytes.Length());
  if (name.find('\0') != std::string::npos) throwRangeError(env, "the name contains a zero byte");
  if (place.set(name.c_str(), value.Data(), value.Length()) != 0) {
    throwSystemError(env, errno, "setxattr", place.path);
  }
}

/*
 * What a record of statInto has, in this order; src/source/file-stat.ts reads it. Doubles up to
 * the number of links (JavaScript's numbers: reading 64-bit words makes an object each), whole words
 * from there on. Times are nanoseconds since 1970. The words from kErrno on, doubles again, are those
 * of lookAt only: a row of it is a record and what it says beside.
 */
enum StatWord {
  kMode, kUid, kGid, kSize, kBlocks, kNlink, kIno, kDev, kRdev, kMtime, kCtime, kWords,
  /* 0, or why there is no record; where in the names its own stands; where its path ends. */
  kErrno = kWords, kNameAt, kPathEnd, kRowWords
};

static int64_t doubleWord(double value) {
  int64_t word;
  memcpy(&word, &value, sizeof word);
  return word;
}

static void putStat(const struct stat& s, int64_t* words) {
  words[kMode] = doubleWord(double(s.st_mode));
  words[kUid] = doubleWord(double(s.st_uid));
  words[kGid] = doubleWord(double(s.st_gid));
  words[kSize] = doubleWord(double(s.st_size));
  words[kBlocks] = doubleWord(double(s.st_blocks));
  words[kNlink] = doubleWord(double(s.st_nlink));
  words[kIno] = int64_t(s.st_ino);
  words[kDev] = int64_t(s.st_dev);
  words[kRdev] = int64_t(s.st_rdev);
  words[kMtime] = int64_t(s.st_mtim.tv_sec) * 1000000000 + s.st_mtim.tv_nsec;
  words[kCtime] = int64_t(s.st_ctim.tv_sec) * 1000000000 + s.st_ctim.tv_nsec;
}

static int64_t* statWords(const Napi::CallbackInfo& info, size_t at) {
  auto words = info[at].As<Napi::BigInt64Array>();
  if (words.ElementLength() < kWords) throwRangeError(info.Env(), "the record is too short");
  return words.Data();
}

/* A name as a Buffer, with a zero behind it; false if it has one inside or is too long. */
static bool copyName(const Napi::Value& value, char (&into)[NAME_MAX + 1]) {
  auto bytes = value.As<Napi::Buffer<char>>();
  const size_t length = bytes.Length();
  if (length >= sizeof into || memchr(bytes.Data(), 0, length) != nullptr) return false;
  memcpy(into, bytes.Data(), length);
  into[length] = 0;
  return true;
}

/*
 * statInto(fd, name, record): of a name in the open directory fd, which is not followed; or of fd
 * itself, where name is null. 0, or errno.
 */
static Napi::Value StatInto(const Napi::CallbackInfo& info) {
  const int fd = int(wholeNumber(info, 0, "fd", INT32_MAX));
  struct stat s;
  int result;
  if (info[1].IsNull()) {
    result = fstat(fd, &s);
  } else {
    char name[NAME_MAX + 1];
    if (!copyName(info[1], name)) return Napi::Number::New(info.Env(), ENAMETOOLONG);
    result = fstatat(fd, name, &s, AT_SYMLINK_NOFOLLOW);
  }
  if (result != 0) return Napi::Number::New(info.Env(), errno);
  putStat(s, statWords(info, 2));
  return Napi::Number::New(info.Env(), 0);
}

static bool sameStat(const struct stat& s, const int64_t* words) {
  int64_t now[kWords];
  putStat(s, now);
  return memcmp(now, words, sizeof now) == 0;
}

/* Of a tar archive: src/library/pax.ts. */
constexpr size_t kTarBlock = 512;

/*
 * listNames(fd): the names in the directory that fd stands for (O_PATH will do), in the order of their
 * bytes, each with a zero behind it.
 */
static Napi::Value ListNames(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int above = int(wholeNumber(info, 0, "fd", INT32_MAX));
  const int fd = openat(above, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) throwSystemError(env, errno, "open");
  DIR* directory = fdopendir(fd);
  if (directory == nullptr) {
    const int error = errno;
    close(fd);
    throwSystemError(env, error, "scandir");
  }
  std::string found;
  std::vector<std::pair<size_t, size_t>> places;
  int error = 0;
  for (;;) {
    errno = 0;
    const dirent* each = readdir(directory);
    if (each == nullptr) {
      error = errno;
      break;
    }
    const char* name = each->d_name;
    if (name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0))) continue;
    const size_t bytes = strlen(name) + 1;
    places.emplace_back(found.size(), bytes);
    found.append(name, bytes);
  }
  closedir(directory);
  if (error != 0) throwSystemError(env, error, "scandir");
  /* The zero behind a name is less than any byte: the one that ends first comes first. */
  std::sort(places.begin(), places.end(), [&](const auto& a, const auto& b) {
    return strcmp(found.data() + a.first, found.data() + b.first) < 0;
  });
  auto names = Napi::Buffer<char>::New(env, found.size());
  char* into = names.Data();
  for (const auto& [at, bytes] : places) {
    memcpy(into, found.data() + at, bytes);
    into += bytes;
  }
  return names;
}

/*
 * lookAt(fd, names, at, prefix, paths, pathsAt, large, rows): statInto of the names from `at` on, a row
 * of kRowWords words each; and their paths, prefix and name, one behind the other from `pathsAt` on.
 * Ends with the rows, the names or the room for paths, and behind what takes whoever asked a while: a
 * directory, a file of `large` bytes or more. Returns the number of rows.
 */
static Napi::Value LookAt(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int fd = int(wholeNumber(info, 0, "fd", INT32_MAX));
  auto names = info[1].As<Napi::Uint8Array>();
  const char* const all = reinterpret_cast<const char*>(names.Data());
  const size_t end = names.ByteLength();
  size_t at = size_t(wholeNumber(info, 2, "at", end));
  if (end > 0 && all[end - 1] != 0) throwRangeError(env, "the last name has no end");
  auto prefix = info[3].As<Napi::Uint8Array>();
  const size_t prefixBytes = prefix.ByteLength();
  auto paths = info[4].As<Napi::Uint8Array>();
  size_t pathsAt = size_t(wholeNumber(info, 5, "pathsAt", paths.ByteLength()));
  const off_t large = off_t(wholeNumber(info, 6, "large", uint64_t(1) << 53));
  auto words = info[7].As<Napi::BigInt64Array>();
  const size_t rows = words.ElementLength() / kRowWords;
  uint32_t row = 0;
  for (bool goesOn = true; goesOn && row < rows && at < end; row++) {
    const char* const name = all + at;
    const size_t bytes = strlen(name);
    if (paths.ByteLength() - pathsAt < prefixBytes + bytes) break;
    memcpy(paths.Data() + pathsAt, prefix.Data(), prefixBytes);
    memcpy(paths.Data() + pathsAt + prefixBytes, name, bytes);
    pathsAt += prefixBytes + bytes;
    struct stat s;
    const bool found = fstatat(fd, name, &s, AT_SYMLINK_NOFOLLOW) == 0;
    int64_t* const into = words.Data() + row * kRowWords;
    if (found) putStat(s, into);
    into[kErrno] = doubleWord(found ? 0 : double(errno));
    into[kNameAt] = doubleWord(double(at));
    into[kPathEnd] = doubleWord(double(pathsAt));
    goesOn = !found || !(S_ISDIR(s.st_mode) || (S_ISREG(s.st_mode) && s.st_size >= large));
    at += bytes + 1;
  }
  return Napi::Number::New(env, row);
}

/*
 * readWhole(dirFd, names, nameAt, flags, words, wordAt, header, headerBytes, view, offset): the member
 * of a small file to `offset` of `view`: its header, all of its data, zeros up to a whole block; if the
 * file is and stays just what the record at `wordAt` of `words` says, and has no extended attributes.
 * Its name is the one that begins at `nameAt` of `names`. True if so; else whoever asked takes it step
 * by step, and finds out what is the matter.
 */
static Napi::Value ReadWhole(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto names = info[1].As<Napi::Uint8Array>();
  const size_t nameAt = size_t(wholeNumber(info, 2, "nameAt", names.ByteLength()));
  const char* const name = reinterpret_cast<const char*>(names.Data()) + nameAt;
  if (memchr(name, 0, names.ByteLength() - nameAt) == nullptr) {
    throwRangeError(env, "the name has no end");
  }
  auto records = info[4].As<Napi::BigInt64Array>();
  const size_t wordAt = size_t(wholeNumber(info, 5, "wordAt", records.ElementLength()));
  if (records.ElementLength() - wordAt < kWords) throwRangeError(env, "the record is too short");
  const int64_t* const words = records.Data() + wordAt;
  auto header = info[6].As<Napi::Uint8Array>();
  const size_t headerBytes = size_t(wholeNumber(info, 7, "headerBytes", header.ByteLength()));
  auto view = info[8].As<Napi::Uint8Array>();
  const size_t offset = size_t(wholeNumber(info, 9, "offset", view.ByteLength()));
  double announced;
  memcpy(&announced, words + kSize, sizeof announced);
  const auto no = [&] { return Napi::Boolean::New(env, false); };
  const double room = double(view.ByteLength() - offset) - double(headerBytes);
  if (!(announced >= 0 && announced <= room)) return no();
  const size_t size = size_t(announced);
  const size_t padded = (size + kTarBlock - 1) / kTarBlock * kTarBlock;
  if (double(padded) > room) return no();
  uint8_t* const data = view.Data() + offset + headerBytes;
  const int flags = int(wholeNumber(info, 3, "flags", INT32_MAX)) | O_CLOEXEC;
  const int fd = openat(int(wholeNumber(info, 0, "dirFd", INT32_MAX)), name, flags);
  if (fd < 0) return no();
  struct stat s;
  size_t got = 0;
  bool good = fstat(fd, &s) == 0 && sameStat(s, words) && flistxattr(fd, nullptr, 0) == 0;
  while (good && got < size) {
    const ssize_t bytes = pread(fd, data + got, size - got, off_t(got));
    if (bytes < 0 && errno == EINTR) continue;
    good = bytes > 0;
    if (good) got += size_t(bytes);
  }
  good = good && fstat(fd, &s) == 0 && sameStat(s, words);
  close(fd);
  if (good) {
    memcpy(view.Data() + offset, header.Data(), headerBytes);
    memset(data + size, 0, padded - size);
  }
  return Napi::Boolean::New(env, good);
}

/*
 * dataSegments(fd, size, countMax): [offset, bytes, ...] of what is not a hole below `size`, in
 * order; null if the file system cannot say, or says what makes no sense. The last of countMax
 * segments reaches to the end. The file's position is moved.
 */
static Napi::Value DataSegments(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const int fd = int(wholeNumber(info, 0, "fd", INT32_MAX));
  const auto size = off_t(wholeNumber(info, 1, "size", (uint64_t(1) << 53) - 1));
  const size_t countMax = size_t(wholeNumber(info, 2, "countMax", INT32_MAX));
  std::vector<double> segments;
  for (off_t at = 0; at < size;) {
    const off_t start = lseek(fd, at, SEEK_DATA);
    if (start < 0 && errno == ENXIO) break;
    if (start < at) return env.Null();
    if (start >= size) break;
    off_t end = size;
    if (segments.size() / 2 + 1 < countMax) {
      end = lseek(fd, start, SEEK_HOLE);
      if (end <= start) return env.Null();
      if (end > size) end = size;
    }
    segments.push_back(double(start));
    segments.push_back(double(end - start));
    at = end;
  }
  Napi::Array found = Napi::Array::New(env, segments.size());
  for (size_t i = 0; i < segments.size(); i++) found.Set(uint32_t(i), segments[i]);
  return found;
}

void registerFileIo(Napi::Env env, Napi::Object exports) {
  exports.Set("setTimesNs", Napi::Function::New(env, SetTimesNs));
  exports.Set("getXattrs", Napi::Function::New(env, GetXattrs));
  exports.Set("setXattr", Napi::Function::New(env, SetXattr));
  exports.Set("dataSegments", Napi::Function::New(env, DataSegments));
  exports.Set("statInto", Napi::Function::New(env, StatInto));
  exports.Set("listNames", Napi::Function::New(env, ListNames));
  exports.Set("lookAt", Napi::Function::New(env, LookAt));
  exports.Set("readWhole", Napi::Function::New(env, ReadWhole));
  exports.Set("syncFiles", Napi::Function::New(env, SyncFiles));
  exports.Set("syncFileSystem", Napi::Function::New(env, SyncFileSystem));
  exports.Set("makeNode", Napi::Function::New(env, MakeNode));
}

}  // namespace stpd
