"""An upload: handshake, login if a user is given, one file, close without reading on.

Arguments: HOST PORT HANDSHAKE SECRET USER PASSWORD FILE; an empty USER for no login.
"""
import hashlib
import hmac
import json
import os
import socket
import struct
import sys

host, port, handshake, secret, user, password, path = sys.argv[1:8]
secret = secret.encode()
client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
client.settimeout(20)
client.connect((host, int(port)))

if handshake != 'none':
    challenge = client.recv(32)
    assert len(challenge) == 32, challenge
    if handshake == 'sha1':
        client.send(hashlib.sha1(secret + challenge).hexdigest().encode())
    else:
        client.send(hmac.new(secret, challenge, handshake[len('hmac-'):]).digest())

if user:
    client.send(json.dumps({'operate': 'login', 'user': user, 'passwd': password}).encode())
    answer = json.loads(client.recv(1024).decode())
    print(answer['flag'])
    if not answer['flag']:
        assert client.recv(1024) == b''
        sys.exit()

header = json.dumps({'filename': os.path.basename(path), 'filesize': os.path.getsize(path)}).encode()
client.send(struct.pack('i', len(header)))
client.send(header)
with open(path, 'rb') as file:
    while True:
        piece = file.read(1000)
        if not piece:
            break
        client.sendall(piece)
client.close()
