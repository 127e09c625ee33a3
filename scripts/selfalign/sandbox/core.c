/* The C core of the sandbox: fork, isolation, watching and attestation of one program (inside/server.py calls it).
 *
 * The server calls run() for each program. The fork becomes process 1 of a new pid namespace, takes a mount namespace,
 * an empty working folder, limits and the system call filter, evaluates the program directly from here, and leaves
 * through leave(). What it reports lies on a page that it shares with the server and that no Python object reaches.
 * A pass needs both: the page says so, and the kernel saw the process exit with status PASSED, which the filter allows
 * at one instruction only, the one in leave(). After a program has returned, no Python code of ours decides anything.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <math.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PASSED 77   /* exit statuses that only leave() may use */
#define FINISHED 78 /* ran to an end that is no pass; the page says which */
#define OPEN_FILES 256
#define ATTESTED(status) (WIFEXITED(status) && (WEXITSTATUS(status) == PASSED || WEXITSTATUS(status) == FINISHED))

struct page { /* what a program's process tells the server; zero at its start */
    int started, false_assertion, failed_case;
    long assertions, cases, top_level;
    char verdict[24], kind[128], message[4096];
    int line;
};

static struct {
    double wall_factor;
    long long memory, disk;
    long processes;
    int progress, extensions; /* see server.py */
    const char *name, *work; /* file name of a program, its working folder */
    struct sock_fprog filter;
    PyObject *settrace, *setprofile, *seed; /* looked up before any program could change them */
    PyObject *coroutine_code, *loader_code; /* of the functions that may make code objects, and read compiled ones */
    int own_pid_namespace;
} set;
static struct page *page;
static int in_program; /* true in a program's process, false in the server */
static struct { /* of one program */
    double cpu_s;
    long long output;
    int tests, network; /* it came with a test part; it mentions sockets or servers */
    char *collected;    /* where its output goes, one byte more than it may have; NULL where none is kept */
} its;

/* --- Leaving --------------------------------------------------------------------------------------------------- */

extern const char sandbox_left[] __attribute__((visibility("hidden"))); /* the address that the kernel sees */

__attribute__((noinline, noclone, noreturn)) static void leave(long status) {
#if defined(__x86_64__)
    __asm__ volatile("syscall\n.hidden sandbox_left\n.globl sandbox_left\nsandbox_left:\n\thlt"
                     : : "a"((long)SYS_exit_group), "D"(status) : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long number __asm__("x8") = SYS_exit_group, argument __asm__("x0") = status;
    __asm__ volatile("svc #0\n.hidden sandbox_left\n.globl sandbox_left\nsandbox_left:\n\tbrk #0"
                     : : "r"(number), "r"(argument) : "memory");
#else
#error "the sandbox has no exit for this machine"
#endif
    __builtin_unreachable();
}

/* --- Evidence: what assertions and test cases did ---------------------------------------------------------------- */

static PyObject *record(PyObject *value) {
    page->assertions++;
    int truth = PyObject_IsTrue(value);
    if (truth < 0) return NULL;
    if (!truth) page->false_assertion = 1;
    return PyBool_FromLong(truth);
}

static PyObject *record_test(PyObject *self, PyObject *value) { return record(value); }

static PyObject *record_top_level(PyObject *self, PyObject *value) {
    page->top_level++;
    return record(value);
}

static PyObject *record_other(PyObject *self, PyObject *value) {
    page->assertions += !its.tests;
    return Py_NewRef(value);
}

static PyObject *count(PyObject *self, PyObject *arguments) {
    long assertions, cases;
    if (!PyArg_ParseTuple(arguments, "ll", &assertions, &cases)) return NULL;
    page->assertions += assertions > 0 ? assertions : 0;
    page->cases += cases > 0 ? cases : 0;
    Py_RETURN_NONE;
}

static PyObject *mark_false(PyObject *self, PyObject *none) {
    page->false_assertion = 1;
    Py_RETURN_NONE;
}

static PyObject *mark_failed_case(PyObject *self, PyObject *none) {
    page->failed_case = 1;
    Py_RETURN_NONE;
}

/* --- The guard: an audit hook that nothing can remove ------------------------------------------------------------ */

static int is_one_of(const char *text, const char *const *names) {
    for (; *names; names++)
        if (strcmp(text, *names) == 0) return 1;
    return 0;
}

/* Tell whether the data that the import system reads are those of the compiled file it names, one that no program can
 * write: a program may call the import system's functions with bytes of its own. */
static int is_compiled_file(PyFrameObject *frame, PyObject *data) {
    enum { HEADER = 16 }; /* bytes before the code, PEP 552 */
    PyObject *locals = PyFrame_GetLocals(frame);
    PyObject *name = locals ? PyMapping_GetItemString(locals, "bytecode_path") : NULL;
    const char *path = name && PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
    const int file = path ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
    struct statvfs mount;
    struct stat status;
    int same = file >= 0 && PyBytes_Check(data) && fstatvfs(file, &mount) == 0 && mount.f_flag & ST_RDONLY &&
               fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_size == PyBytes_GET_SIZE(data) + HEADER;
    if (same) {
        char *content = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
        const size_t length = (size_t)PyBytes_GET_SIZE(data);
        same = content != MAP_FAILED && memcmp(content + HEADER, PyBytes_AS_STRING(data), length) == 0;
        if (content != MAP_FAILED) munmap(content, (size_t)status.st_size);
    }
    if (file >= 0) close(file);
    Py_XDECREF(name);
    Py_XDECREF(locals);
    PyErr_Clear();
    return same;
}

static int guard(const char *event, PyObject *arguments, void *unused) {
    /* ways to harness state, to native memory and to code that no compiler made */
    static const char *const events[] = {"gc.get_objects", "gc.get_referrers", "gc.get_referents",
                                         "sys._current_frames", "sys._current_exceptions",
                                         "sqlite3.enable_load_extension", NULL};
    static const char *const imports[] = {"_ctypes", "_ctypes_test", "_cffi_backend", "_testcapi", "_testinternalcapi",
                                          "_testbuffer", "_testlimitedcapi", "_xxsubinterpreters", "_interpreters",
                                          NULL};
    if (!in_program) return 0;
    if (strcmp(event, "import") == 0) {
        PyObject *name = PyTuple_GET_SIZE(arguments) ? PyTuple_GET_ITEM(arguments, 0) : NULL;
        const char *text = name && PyUnicode_Check(name) ? PyUnicode_AsUTF8(name) : NULL;
        const char *last = text ? strrchr(text, '.') : NULL; /* a library's entry is found by the name's last part */
        if (text == NULL) PyErr_Clear();
        else if (is_one_of(last ? last + 1 : text, imports)) {
            PyErr_Format(PyExc_ImportError, "%s is not available in the sandbox", text);
            return -1;
        }
        return 0;
    }
    int refused = strncmp(event, "ctypes.", 7) == 0 || is_one_of(event, events);
    const int new_code = strcmp(event, "code.__new__") == 0;
    if (new_code || strncmp(event, "marshal.load", 12) == 0) {
        PyFrameObject *frame = PyEval_GetFrame(); /* asyncio makes coroutines of its generators; modules are imported */
        PyCodeObject *caller = frame ? PyFrame_GetCode(frame) : NULL;
        refused = (PyObject *)caller != (new_code ? set.coroutine_code : set.loader_code);
        if (!refused && !new_code) refused = !is_compiled_file(frame, PyTuple_GET_ITEM(arguments, 0));
        Py_XDECREF(caller);
    }
    if (refused) PyErr_Format(PyExc_PermissionError, "%s is not available in the sandbox", event);
    return refused ? -1 : 0;
}

/* --- A program's process ------------------------------------------------------------------------------------------ */

static void fail(const char *step) { /* isolation did not hold: say why, run nothing */
    snprintf(page->message, sizeof page->message, "%s: %s", step, strerror(errno));
    _exit(1);
}

static void limit(int resource, rlim_t soft, rlim_t hard) {
    struct rlimit old, new = {soft, hard};
    getrlimit(resource, &old);
    if (new.rlim_cur > old.rlim_max) new.rlim_cur = old.rlim_max;
    if (new.rlim_max > old.rlim_max) new.rlim_max = old.rlim_max;
    if (setrlimit(resource, &new)) fail("setrlimit");
}

/* A network of its own for a program that may use one: the worker's remembers ports for a minute. */
static void take_network(void) {
    struct ifreq loopback = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    if (unshare(CLONE_NEWNET)) fail("unshare network");
    const int socket_ = socket(AF_INET, SOCK_DGRAM, 0);
    if (socket_ < 0 || ioctl(socket_, SIOCSIFFLAGS, &loopback)) fail("loopback");
    close(socket_);
}

static void isolate(int output) {
    char size[64];
    const unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC; /* a library that a program wrote is not loaded */
    const rlim_t megabyte = 1 << 20, cpu = (rlim_t)ceil(2 * its.cpu_s) + 1; /* by ticks; the server's limit decides */
    const rlim_t memory = set.memory + (its.collected ? its.output + 1 : 0); /* the room for output is inherited */
    snprintf(size, sizeof size, "size=%lld,nr_inodes=4096,mode=755", set.disk);
    /* Process groups reach across pid namespaces: without a session of its own, kill(0, 9) would meet the server. */
    if (setsid() < 0) fail("setsid");
    if (unshare(CLONE_NEWNS)) fail("unshare");
    if (mount("tmpfs", "/tmp", "tmpfs", flags, size)) fail("mount /tmp");
    if (mount("tmpfs", "/dev/shm", "tmpfs", flags, size)) fail("mount /dev/shm");
    if (mkdir(set.work, 0755) || chdir(set.work)) fail("working folder");
    if (dup2(output, 1) < 0 || dup2(output, 2) < 0) fail("dup2");
    if (syscall(SYS_close_range, 3u, ~0u, 0u)) fail("close_range");
    if (its.network) take_network();
    limit(RLIMIT_CPU, cpu, cpu);
    limit(RLIMIT_AS, memory, memory + 64 * megabyte);
    limit(RLIMIT_FSIZE, set.disk, set.disk);
    limit(RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES);
    limit(RLIMIT_NPROC, set.processes, set.processes);
    limit(RLIMIT_STACK, 8 * megabyte, 8 * megabyte);
    limit(RLIMIT_CORE, 0, 0);
    limit(RLIMIT_MEMLOCK, 0, 0);
    limit(RLIMIT_MSGQUEUE, 0, 0);
    limit(RLIMIT_SIGPENDING, 256, 256);
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct none[2] = {{0}};
    if (syscall(SYS_capset, &header, none)) fail("capset");
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) fail("no_new_privs");
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &set.filter, 0, 0)) fail("seccomp");
}

/* Call something of the program's; whatever trace function it leaves behind goes first. Returns 0 on success. */
static int ended(PyObject *result) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    Py_XDECREF(PyObject_CallOneArg(set.settrace, Py_None));
    Py_XDECREF(PyObject_CallOneArg(set.setprofile, Py_None));
    PyErr_Clear();
    PyErr_Restore(type, value, traceback);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Call what pytest calls before a test method, where the class has it; it may take the method. Returns 0 on success. */
static int call_setup(PyObject *owner, const char *name, PyObject *method) {
    if (!PyObject_HasAttrString(owner, name)) return 0;
    PyObject *setup = PyObject_GetAttrString(owner, name);
    PyObject *code = setup ? PyObject_GetAttrString(setup, "__code__") : NULL;
    PyObject *number = code ? PyObject_GetAttrString(code, "co_argcount") : NULL;
    const int takes_method = method && number && PyLong_Check(number) && PyLong_AsLong(number) > 1;
    PyErr_Clear();
    if (setup == NULL) return 0;
    return ended(takes_method ? PyObject_CallOneArg(setup, method) : PyObject_CallNoArgs(setup));
}

/* Run a test function, in an event loop when it is a coroutine. */
static int run_test(PyObject *function) {
    PyObject *result = PyObject_CallNoArgs(function);
    if (result && PyCoro_CheckExact(result)) {
        PyObject *asyncio = PyImport_ImportModule("asyncio");
        PyObject *outcome = asyncio ? PyObject_CallMethod(asyncio, "run", "O", result) : NULL;
        Py_DECREF(result);
        result = outcome;
    }
    return ended(result);
}

/* Run what pytest would run: functions without arguments, and the methods of classes without __init__. */
static int run_uncalled_tests(PyObject *names, PyObject *namespace, PyObject *test_case) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
        PyObject *item = PyDict_GetItemWithError(namespace, PyTuple_GET_ITEM(names, i));
        Py_XINCREF(item); /* a test may delete itself */
        if (item && PyFunction_Check(item) && run_test(item)) return -1;
        if (item == NULL || !PyType_Check(item)) continue;
        if (test_case && PyType_IsSubtype((PyTypeObject *)item, (PyTypeObject *)test_case)) continue;
        PyObject *space = PyObject_GetAttrString(item, "__dict__");
        PyObject *keys = space ? PyMapping_Keys(space) : NULL;
        if (keys == NULL) return ended(NULL);
        if (!PyMapping_HasKeyString(space, "__init__") && call_setup(item, "setup_class", NULL)) return -1;
        if (!PyMapping_HasKeyString(space, "__init__"))
            for (Py_ssize_t j = 0; j < PyList_GET_SIZE(keys); j++) {
                PyObject *key = PyList_GET_ITEM(keys, j);
                const char *text = PyUnicode_Check(key) ? PyUnicode_AsUTF8(key) : NULL;
                if (text == NULL || strncmp(text, "test", 4)) continue;
                PyObject *instance = PyObject_CallNoArgs(item);
                PyObject *method = instance ? PyObject_GetAttr(instance, key) : NULL;
                if (method == NULL) return ended(NULL);
                if (call_setup(instance, "setup_method", method) || run_test(method)) return -1;
            }
    }
    return 0;
}

/* Write out what still waits in the program's files, as the interpreter does at its end. Returns 0 on success. */
static int flush_output(void) {
    static const char *const names[] = {"stdout", "stderr", "__stdout__", "__stderr__"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        PyObject *file = PySys_GetObject(names[i]);
        if (file == NULL || file == Py_None) continue;
        Py_INCREF(file); /* its methods may be the program's */
        PyObject *closed = PyObject_GetAttrString(file, "closed");
        const int is_open = closed == NULL || PyObject_IsTrue(closed) == 0;
        PyErr_Clear();
        if (is_open && ended(PyObject_CallMethod(file, "flush", NULL))) return -1;
    }
    return 0;
}

/* Find the innermost line of the program in an error's traceback, 0 for none. Returns whether all its lines there are
 * among the given ones. */
static int find_line(PyObject *error, PyObject *lines, int *innermost) {
    PyObject *step = PyException_GetTraceback(error);
    int among = step != NULL;
    *innermost = 0;
    while (step && PyTraceBack_Check(step)) {
        PyCodeObject *code = PyFrame_GetCode(((PyTracebackObject *)step)->tb_frame);
        if (PyUnicode_CompareWithASCIIString(code->co_filename, set.name) == 0) {
            PyObject *number = PyObject_GetAttrString(step, "tb_lineno");
            *innermost = number && PyLong_Check(number) ? (int)PyLong_AsLong(number) : 0;
            if (lines && (number == NULL || PySet_Contains(lines, number) != 1)) among = 0;
            Py_XDECREF(number);
        }
        Py_DECREF(code);
        PyObject *next = (PyObject *)((PyTracebackObject *)step)->tb_next;
        Py_XINCREF(next);
        Py_DECREF(step);
        step = next;
    }
    Py_XDECREF(step);
    PyErr_Clear();
    return among && *innermost;
}

__attribute__((noreturn)) static void finish(const char *verdict) {
    if (getpid() != 1) _exit(0); /* a fork of the program that came back here has nothing to attest */
    snprintf(page->verdict, sizeof page->verdict, "%s", verdict);
    int passed = strcmp(verdict, "passed") == 0 && !page->false_assertion && !page->failed_case;
    leave(passed ? PASSED : FINISHED);
}

/* Describe the error that ended the program, and leave. */
__attribute__((noreturn)) static void finish_with(PyObject *error, const char *verdict) {
    struct rlimit memory;
    if (PyErr_GivenExceptionMatches(error, PyExc_MemoryError) && getrlimit(RLIMIT_AS, &memory) == 0) {
        memory.rlim_cur = memory.rlim_max; /* room to say so */
        setrlimit(RLIMIT_AS, &memory);
    }
    int innermost;
    find_line(error, NULL, &innermost);
    if (PyErr_GivenExceptionMatches(error, PyExc_SyntaxError)) {
        PyObject *number = PyObject_GetAttrString(error, "lineno");
        if (number && PyLong_Check(number)) innermost = (int)PyLong_AsLong(number);
        PyErr_Clear();
    }
    page->line = innermost;
    const char *kind = strrchr(Py_TYPE(error)->tp_name, '.');
    snprintf(page->kind, sizeof page->kind, "%s", kind ? kind + 1 : Py_TYPE(error)->tp_name);
    PyObject *text = PyObject_Str(error); /* may run code of the program */
    PyObject *data = text ? PyUnicode_AsEncodedString(text, "utf-8", "backslashreplace") : NULL;
    if (data) snprintf(page->message, sizeof page->message, "%s", PyBytes_AS_STRING(data));
    finish(verdict);
}

static PyObject *take_error(void) {
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback) PyException_SetTraceback(value, traceback);
    return value;
}

/* The whole life of a program after the fork. The job: (code, namespace, lines where an exit leaves nothing undone,
 * top-level assertions, names of uncalled tests, hooks to install, function that runs unittest's cases or None). */
__attribute__((noreturn)) static void be_program(PyObject *job, PyObject *prepare, PyObject *request,
                                                  int output) {
    PyObject *code, *namespace, *last_lines, *names, *hooks, *run_cases;
    int line;
    long top_level;
    isolate(output);
    PyOS_AfterFork_Child();
    page->started = 1;
    if (job == Py_None && (job = PyObject_CallOneArg(prepare, request)) == NULL) finish_with(take_error(), "syntax");
    in_program = 1; /* not before: compiling makes code objects */
    PyArg_ParseTuple(job, "OOOlOOO", &code, &namespace, &last_lines, &top_level, &names, &hooks, &run_cases);
    Py_XDECREF(PyObject_CallFunction(set.seed, "i", 0));
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(hooks); i++)
        Py_XDECREF(PyObject_CallNoArgs(PyTuple_GET_ITEM(hooks, i)));
    PyObject *error = PyErr_Occurred() ? take_error() : NULL;

    if (error == NULL && ended(PyEval_EvalCode(code, namespace, namespace))) error = take_error();
    if (error && Py_IS_TYPE(error, (PyTypeObject *)PyExc_SystemExit)) {
        /* unittest.main() or sys.exit(main()) at the end is a whole run; an exit that leaves work undone is not. */
        PyObject *status = PyObject_GetAttrString(error, "code");
        const int good = status == Py_None || (status && PyLong_Check(status) && PyObject_IsTrue(status) == 0);
        if (find_line(error, last_lines, &line) && good) error = NULL;
        PyErr_Clear();
    }
    PyObject *cases = run_cases == Py_None ? NULL : PyImport_GetModule(PyUnicode_FromString("unittest"));
    PyObject *test_case = cases ? PyObject_GetAttrString(cases, "TestCase") : NULL;
    if (test_case && !PyType_Check(test_case)) test_case = NULL;
    PyErr_Clear();
    const long before = page->cases;
    if (error == NULL && run_uncalled_tests(names, namespace, test_case)) error = take_error();
    if (error == NULL && cases && before == 0 && ended(PyObject_CallOneArg(run_cases, namespace))) error = take_error();
    PyObject *threading = error ? NULL : PyImport_GetModule(PyUnicode_FromString("threading"));
    if (threading && ended(PyObject_CallMethod(threading, "_shutdown", NULL))) error = take_error();
    if (error == NULL && its.collected && flush_output()) error = take_error();

    if (error == NULL && page->assertions && page->top_level < top_level) {
        snprintf(page->message, sizeof page->message, "%ld of %ld assertions on module level were not executed",
                 top_level - page->top_level, top_level);
        finish("early_exit");
    }
    if (error == NULL) finish(page->assertions ? "passed" : "no_tests");
    finish_with(error, PyErr_GivenExceptionMatches(error, PyExc_AssertionError) ? "assertion"
                       : PyErr_GivenExceptionMatches(error, PyExc_MemoryError)  ? "memory"
                       : PyErr_GivenExceptionMatches(error, PyExc_SystemExit)   ? "early_exit"
                                                                                : "exception");
}

/* --- The server's side --------------------------------------------------------------------------------------------- */

static double seconds(clockid_t clock) {
    struct timespec now = {0};
    clock_gettime(clock, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

/* Read once what the program printed, to where its output so far ends if it is collected; returns the bytes. */
static long long read_output(int output, long long printed) {
    static char discarded[1 << 16];
    const ssize_t part = its.collected ? read(output, its.collected + printed, (size_t)(its.output + 1 - printed))
                                       : read(output, discarded, sizeof discarded);
    return part > 0 ? part : 0;
}

/* Drain a program's output until it ends or breaks a limit, and kill it then. Returns the limit, "" for none. */
static const char *watch(pid_t pid, int process, int output, long long *printed) {
    struct pollfd polled[] = {{process, POLLIN, 0}, {output, POLLIN, 0}};
    const clockid_t cpu_clock = (~(clockid_t)pid << 3) | 2; /* the kernel's number for a process's CPU clock */
    const double window = its.cpu_s * set.wall_factor, start = seconds(CLOCK_MONOTONIC);
    double deadline = start + window, check = start + its.cpu_s, cpu_before = 0; /* check: may be out of CPU time */
    int extensions = 0;
    for (;;) {
        double now = seconds(CLOCK_MONOTONIC), next = check < deadline ? check : deadline;
        poll(polled, 2, next > now ? (int)((next - now) * 1000) + 1 : 0);
        const char *broken = "";
        if (polled[1].revents & POLLIN) *printed += read_output(output, *printed);
        else if (polled[1].revents) polled[1].fd = -1; /* it closed its output */
        now = seconds(CLOCK_MONOTONIC);
        if (*printed > its.output) broken = "output_limit";
        else if (polled[0].revents) return "";
        else if (now >= (check < deadline ? check : deadline)) {
            double cpu = seconds(cpu_clock), left = its.cpu_s - cpu;
            check = now + (left > 0.005 ? left : 0.005);
            if (cpu >= its.cpu_s) broken = "timeout_cpu";
            else if (now >= deadline && cpu - cpu_before > window / set.progress && extensions < set.extensions) {
                deadline = now + window; /* slow: the machine is busy */
                cpu_before = cpu;
                extensions++;
            } else if (now >= deadline) broken = "timeout_wall";
        }
        if (*broken) {
            kill(pid, SIGKILL); /* process 1 of its namespace: the kernel ends all the others with it */
            return broken;
        }
    }
}

static PyObject *run_program(PyObject *job, PyObject *prepare, PyObject *request) {
    /* A process may have one pid namespace prepared for its children; going back to its own allows the next. */
    if (setns(set.own_pid_namespace, CLONE_NEWPID) || unshare(CLONE_NEWPID)) return PyErr_SetFromErrno(PyExc_OSError);
    int output[2]; /* a new one each time: its flags and size are the program's to change */
    if (pipe2(output, O_CLOEXEC)) return PyErr_SetFromErrno(PyExc_OSError);
    fcntl(output[0], F_SETFL, O_NONBLOCK);
    memset(page, 0, sizeof *page);
    const double start = seconds(CLOCK_MONOTONIC);
    PyOS_BeforeFork();
    pid_t pid = fork();
    if (pid == 0) be_program(job, prepare, request, output[1]);
    const int code = errno;
    PyOS_AfterFork_Parent();
    close(output[1]);
    if (pid < 0) {
        close(output[0]);
        errno = code;
        return PyErr_SetFromErrno(PyExc_OSError);
    }
    struct rusage usage = {0};
    int status = 0;
    long long printed = 0;
    const int process = (int)syscall(SYS_pidfd_open, pid, 0);
    const char *broken = "";
    if (process < 0) {
        kill(pid, SIGKILL);
        page->started = 0;
        snprintf(page->message, sizeof page->message, "pidfd_open: %s", strerror(errno));
    } else broken = watch(pid, process, output[0], &printed);
    if (process >= 0) close(process);
    while (wait4(pid, &status, 0, &usage) < 0 && errno == EINTR) continue;
    for (long long part; printed <= its.output && (part = read_output(output[0], printed)) > 0;) printed += part;
    close(output[0]);
    if (!*broken && printed > its.output) broken = "output_limit";
    const double cpu = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
                       (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
    if (!*broken && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL && cpu >= its.cpu_s)
        broken = "timeout_cpu"; /* RLIMIT_CPU: on many cores it may come first */
    const int passed = ATTESTED(status) && WEXITSTATUS(status) == PASSED;
    page->verdict[sizeof page->verdict - 1] = page->kind[sizeof page->kind - 1] = 0;
    page->message[sizeof page->message - 1] = 0;
    /* What contradicts itself was written by somebody else: then nothing on the page counts. */
    const int says_passed = strcmp(page->verdict, "passed") == 0 && !page->false_assertion && !page->failed_case;
    const int attested = ATTESTED(status) && *page->verdict && passed == says_passed;
    return Py_BuildValue("{s:s,s:i,s:i,s:s,s:y,s:y,s:i,s:i,s:i,s:l,s:i,s:L,s:d,s:d,s:d,s:l,s:l}", "broken", broken,
                         "started", page->started, "attested", attested, "verdict", attested ? page->verdict : "",
                         "kind", page->kind, "message", page->message, "line", page->line, "false_assertion",
                         page->false_assertion, "failed_case", page->failed_case, "assertions", page->assertions,
                         "status", status, "printed", printed, "cpu_s", cpu, "wall_s", seconds(CLOCK_MONOTONIC) - start,
                         "max_rss_mb", usage.ru_maxrss / 1024.0, "waits", usage.ru_nvcsw, "preemptions",
                         usage.ru_nivcsw);
}

static PyObject *run(PyObject *self, PyObject *arguments) {
    PyObject *job, *prepare, *request, *collected;
    Py_buffer room = {0};
    if (in_program) return PyErr_Format(PyExc_PermissionError, "not available in the sandbox");
    if (!PyArg_ParseTuple(arguments, "OOOppdLO", &job, &prepare, &request, &its.tests, &its.network, &its.cpu_s,
                          &its.output, &collected))
        return NULL;
    if (collected != Py_None && PyObject_GetBuffer(collected, &room, PyBUF_WRITABLE)) return NULL;
    if (collected != Py_None && room.len <= its.output) {
        PyBuffer_Release(&room);
        return PyErr_Format(PyExc_ValueError, "there is less room than the program may print");
    }
    its.collected = room.buf;
    PyObject *seen = run_program(job, prepare, request);
    PyBuffer_Release(&room);
    return seen;
}

static int stay(PyObject *frame, PyObject *line, void *unused) { return 0; }

static PyObject *configure(PyObject *self, PyObject *arguments) {
    const char *filter;
    Py_ssize_t size;
    PyObject *sys = PyImport_ImportModule("sys"), *random = PyImport_ImportModule("random");
    PyObject *types = PyImport_ImportModule("types"), *loader = PyImport_ImportModule("_frozen_importlib_external");
    if (!sys || !random || !types || !loader || page)
        return PyErr_Format(PyExc_RuntimeError, "configure: once, in the server");
    if (!PyArg_ParseTuple(arguments, "dLLliissy#i", &set.wall_factor, &set.memory, &set.disk, &set.processes,
                          &set.progress, &set.extensions, &set.name, &set.work, &filter, &size,
                          &set.own_pid_namespace))
        return NULL;
    PyObject *coroutine = PyObject_GetAttrString(types, "coroutine");
    PyObject *compile = PyObject_GetAttrString(loader, "_compile_bytecode");
    set.coroutine_code = coroutine ? PyObject_GetAttrString(coroutine, "__code__") : NULL;
    set.loader_code = compile ? PyObject_GetAttrString(compile, "__code__") : NULL;
    set.settrace = PyObject_GetAttrString(sys, "settrace");
    set.setprofile = PyObject_GetAttrString(sys, "setprofile");
    set.seed = PyObject_GetAttrString(random, "seed");
    if (!set.coroutine_code || !set.loader_code || !set.settrace || !set.setprofile || !set.seed) return NULL;
    set.name = strdup(set.name);
    set.work = strdup(set.work);
    set.filter.len = (unsigned short)(size / sizeof(struct sock_filter));
    set.filter.filter = memcpy(malloc(size), filter, size);
    /* A trace function could jump over a false assertion: setting a frame's line does nothing. */
    for (PyGetSetDef *item = PyFrame_Type.tp_getset; item->name; item++)
        if (strcmp(item->name, "f_lineno") == 0) item->set = stay;
    page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) return PyErr_SetFromErrno(PyExc_OSError);
    if (PySys_AddAuditHook(guard, NULL)) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef recorders[] = {
    {"record_test", record_test, METH_O, NULL},       {"record_top_level", record_top_level, METH_O, NULL},
    {"record_other", record_other, METH_O, NULL},     {"count", count, METH_VARARGS, NULL},
    {"mark_false", mark_false, METH_NOARGS, NULL},    {"mark_failed_case", mark_failed_case, METH_NOARGS, NULL},
};
static PyMethodDef methods[] = {{"configure", configure, METH_VARARGS, "Set limits and start the guard, once."},
                                {"run", run, METH_VARARGS, "Fork, isolate, run and watch one program."},
                                {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "selfalign_sandbox", "See core.c.", -1, methods};

PyMODINIT_FUNC PyInit_selfalign_sandbox(void) {
    PyObject *made = PyModule_Create(&module);
    if (made == NULL) return NULL;
    for (size_t i = 0; i < sizeof recorders / sizeof *recorders; i++) {
        /* without a self: what stands in a program's constants must not lead to this module */
        PyObject *function = PyCFunction_New(&recorders[i], NULL);
        if (PyModule_AddObject(made, recorders[i].ml_name, function)) return NULL;
    }
    if (PyModule_AddObject(made, "left_at", PyLong_FromVoidPtr((void *)sandbox_left))) return NULL;
    if (PyModule_AddIntConstant(made, "PASSED", PASSED) || PyModule_AddIntConstant(made, "FINISHED", FINISHED))
        return NULL;
    return made;
}
