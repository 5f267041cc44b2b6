// The least that a server of uploads can do: takes files by the plain protocol (README, "Uploads", without a handshake) on
// one thread with one epoll, and puts each into a folder under the name that its header says. Loopback only. Ends when killed.
//
//   sink splice PORT FOLDER         socket, pipe, file: the bytes are never copied into this process
//   sink copy PORT FOLDER           read and write of 256 KiB
//   sink digest PORT FOLDER         the same, and the SHA-256 of what came; answers by the frames of "ack"
//   sink digest-sync PORT FOLDER    the same, and the file is forced to the disk (fsync) before its answer
//
// No time-outs, no limits, no safe names, no name that is only there once the file is whole: nobody could run it. The two
// with digests are there where <openssl/evp.h> was (-DDIGEST -lcrypto), which uses the processor's instructions for SHA.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef DIGEST
#include <openssl/evp.h>
#endif

enum { EVENTS = 256, PIECE = 256 << 10, PIPE = 1 << 20, HEADER = 4096 };
enum how { SPLICE, COPY, DIGESTED, SYNCED };

struct upload {
    int fd, file;             // file: -1 until the header is whole
    uint32_t header_bytes;    // of the length and the header, as far as they came
    uint64_t left;
    char header[4 + HEADER + 1];
#ifdef DIGEST
    EVP_MD_CTX *digest;
#endif
};

static enum how how;
static const char *folder;
static int through[2];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void answer(struct upload *u, const char *text) {
    char frame[4 + 512];
    uint32_t bytes = snprintf(frame + 4, sizeof frame - 4, "%s", text);
    memcpy(frame, &bytes, 4);
    if (send(u->fd, frame, 4 + bytes, MSG_NOSIGNAL) != 4 + (ssize_t)bytes) perror("answer");
}

// The file that the header is about: 0, or -1 if it is not about any.
static int begin(struct upload *u) {
    char path[4096], *json = u->header + 4, *name = strstr(json, "\"filename\": \""), *size = strstr(json, "\"filesize\": ");
    if (!name || !size) return -1;
    int bytes = strcspn(name += 13, "\"/");
    snprintf(path, sizeof path, "%s/%.*s", folder, bytes, name);
    u->left = strtoull(size + 12, 0, 10);
    u->file = open(path, O_CREAT | O_TRUNC | O_WRONLY, 0644);
    if (u->file < 0) fail(path);
    if (how >= DIGESTED) answer(u, "{\"ready\": true, \"offset\": 0}");
#ifdef DIGEST
    u->digest = EVP_MD_CTX_new();
    EVP_DigestInit_ex(u->digest, EVP_sha256(), 0);
#endif
    return 0;
}

// Takes some of the length and the header: -1 at an end.
static int take_header(struct upload *u) {
    uint32_t want = 4;
    if (u->header_bytes >= 4) {
        memcpy(&want, u->header, 4);
        if (want > HEADER) return -1;
        want += 4;
    }
    ssize_t n = recv(u->fd, u->header + u->header_bytes, want - u->header_bytes, 0);
    if (n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
    u->header_bytes += n;
    return want > 4 && u->header_bytes == want ? begin(u) : 0;
}

// The file is whole.
static void finish(struct upload *u) {
#ifdef DIGEST
    char text[256], hex[2 * EVP_MAX_MD_SIZE + 1];
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned bytes;
    EVP_DigestFinal_ex(u->digest, digest, &bytes);
    for (unsigned i = 0; i < bytes; i++) sprintf(hex + 2 * i, "%02x", digest[i]);
    if (how == SYNCED && fsync(u->file)) fail("fsync");
    if (how >= DIGESTED) {
        snprintf(text, sizeof text, "{\"ok\": %s, \"sha256\": \"%s\"}", strstr(u->header + 4, hex) ? "true" : "false", hex);
        answer(u, text);
    }
    EVP_MD_CTX_free(u->digest);
    u->digest = 0;
#endif
    close(u->file);
    u->file = -1, u->header_bytes = 0;
    memset(u->header, 0, sizeof u->header);
}

// Takes one piece: -1 at an end.
static int take(struct upload *u) {
    static char piece[PIECE];
    if (u->file < 0) return take_header(u);
    size_t most = how == SPLICE ? PIPE : PIECE;
    if (most > u->left) most = u->left;
    ssize_t n = how == SPLICE ? splice(u->fd, 0, through[1], 0, most, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
                              : recv(u->fd, piece, most, 0);
    if (most && n <= 0) return n < 0 && errno == EAGAIN ? 0 : -1;
#ifdef DIGEST
    if (how >= DIGESTED) EVP_DigestUpdate(u->digest, piece, n);
#endif
    for (ssize_t at = 0, put; at < n; at += put) {
        put = how == SPLICE ? splice(through[0], 0, u->file, 0, n - at, SPLICE_F_MOVE) : write(u->file, piece + at, n - at);
        if (put <= 0) fail("the file");
    }
    if ((u->left -= n) == 0) finish(u);
    return 0;
}

static int listening(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&at, sizeof at) || listen(fd, 4096)) fail("listen");
    return fd;
}

int main(int argc, char **argv) {
    static const char *names[] = {"splice", "copy", "digest", "digest-sync"};
#ifdef DIGEST
    const int known = 4;
#else
    const int known = 2;
#endif
    while (argc == 4 && (int)how < known && strcmp(argv[1], names[how])) how++;
    if (argc != 4 || (int)how == known) {
        fprintf(stderr, "usage: sink splice|copy%s PORT FOLDER\n", known == 4 ? "|digest|digest-sync" : "");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    folder = argv[3];
    if (pipe(through)) fail("pipe");
    fcntl(through[1], F_SETPIPE_SZ, PIPE);
    int ep = epoll_create1(0);
    struct upload listener = {.fd = listening(atoi(argv[2]))};
    struct epoll_event ev[EVENTS], e = {.events = EPOLLIN, .data.ptr = &listener};
    epoll_ctl(ep, EPOLL_CTL_ADD, listener.fd, &e);
    for (;;) {
        int n = epoll_wait(ep, ev, EVENTS, -1);
        for (int i = 0; i < n; i++) {
            struct upload *u = ev[i].data.ptr;
            if (u == &listener) {
                for (int fd; (fd = accept4(listener.fd, 0, 0, SOCK_NONBLOCK)) >= 0;) {
                    u = calloc(1, sizeof *u);
                    u->fd = fd, u->file = -1;
                    e = (struct epoll_event){.events = EPOLLIN, .data.ptr = u};
                    epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
                }
            } else if (take(u) < 0) {
#ifdef DIGEST
                EVP_MD_CTX_free(u->digest);
#endif
                if (u->file >= 0) close(u->file);
                close(u->fd);
                free(u);
            }
        }
    }
}
