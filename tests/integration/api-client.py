#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""
A client of org.camrescue1 as an IDE would have it, written from docs/dbus-api.md alone, with nothing but GLib's D-Bus.

    api-client.py ADDRESS status                        each camera: port, state, key
    api-client.py ADDRESS update PORT [FIRMWARE]        follows it to its end; exit status 0: done
    api-client.py ADDRESS add FILE BOARD                a file into the firmware store; its id
    api-client.py ADDRESS inhibit PORT                  says "held", and holds until its input ends
    api-client.py ADDRESS follow                        what is, and what changes, over restarts of the daemon, until its input ends

ADDRESS: of the bus; "system" is the system's.
"""

import fcntl
import os
import sys

import gi
gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib

SERVICE = "org.camrescue1"
ROOT = "/org/camrescue1"
MANAGER = SERVICE + ".Manager"
CAMERA = SERVICE + ".Camera"
UPDATE = SERVICE + ".Update"
PROPERTIES = "org.freedesktop.DBus.Properties"
OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"
# A person may have to type a password.
TIMEOUT_MS = 300 * 1000
MAY_ASK = Gio.DBusCallFlags.ALLOW_INTERACTIVE_AUTHORIZATION


def say(*words):
    print(*words, flush=True)


class Client:
    """Every object with its properties, kept true by what the daemon tells."""

    def __init__(self, address):
        if address == "system":
            self.bus = Gio.bus_get_sync(Gio.BusType.SYSTEM)
        else:
            self.bus = Gio.DBusConnection.new_for_address_sync(
                address, Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT | Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
        self.objects = {}
        self.manager = {}
        self.on_change = lambda path, interface, old, new: None
        self.on_owner = lambda there: None
        self.bus.signal_subscribe(SERVICE, None, None, None, None, Gio.DBusSignalFlags.NONE, self.signal)
        self.bus.signal_subscribe("org.freedesktop.DBus", "org.freedesktop.DBus", "NameOwnerChanged", None, SERVICE,
                                  Gio.DBusSignalFlags.NONE, self.owner_changed)
        self.read()

    def call(self, path, interface, member, arguments=None, flags=Gio.DBusCallFlags.NONE):
        return self.bus.call_sync(SERVICE, path, interface, member, arguments, None, flags, TIMEOUT_MS, None).unpack()

    def read(self):
        self.objects = self.call(ROOT, OBJECT_MANAGER, "GetManagedObjects")[0]
        self.manager = self.call(ROOT, PROPERTIES, "GetAll", GLib.Variant("(s)", (MANAGER,)))[0]

    def signal(self, _bus, _sender, path, interface, member, arguments):
        if interface == OBJECT_MANAGER:
            path, interfaces = arguments.unpack()
            if member == "InterfacesAdded":
                self.objects.setdefault(path, {}).update(interfaces)
                for name, properties in interfaces.items():
                    self.on_change(path, name, {}, properties)
            elif member == "InterfacesRemoved":
                gone = self.objects.pop(path, {})
                for name, properties in gone.items():
                    self.on_change(path, name, properties, {})
        elif interface == PROPERTIES and member == "PropertiesChanged":
            name, changed, _ = arguments.unpack()
            known = self.manager if name == MANAGER else self.objects.setdefault(path, {}).setdefault(name, {})
            old = dict(known)
            known.update(changed)
            self.on_change(path, name, old, known)

    def owner_changed(self, _bus, _sender, _path, _interface, _member, arguments):
        there = arguments.unpack()[2] != ""
        self.objects, self.manager = {}, {}
        if there:
            self.read()
        self.on_owner(there)

    def cameras(self):
        return {path: interfaces[CAMERA] for path, interfaces in self.objects.items() if CAMERA in interfaces}

    def camera_at(self, port):
        for path, camera in self.cameras().items():
            if camera["Port"] == port:
                return path
        raise SystemExit(f"no camera at {port}")

    # --- what an IDE does ---

    def update(self, camera, firmware):
        options = {"firmware": GLib.Variant("s", firmware)} if firmware else {}
        update, action, text = self.call(camera, CAMERA, "Update", GLib.Variant("(a{sv})", (options,)), MAY_ASK)
        say(action, text)
        if action not in ("update", "queued"):
            return action == "current"
        loop = GLib.MainLoop()
        steps = []

        def look(path, _interface, _old, new):
            if path != update or not new:
                return
            if not steps or steps[-1] != new["Step"]:
                steps.append(new["Step"])
            say(f"{new['Step']} {new['Progress']:.2f} {new['BytesDone']}/{new['BytesTotal']}")
            if new["Result"] != "open":
                loop.quit()
        self.on_change = look
        # It may have moved on already; and what is told of it from now on comes to look().
        now = self.call(update, PROPERTIES, "GetAll", GLib.Variant("(s)", (UPDATE,)))[0]
        self.objects.setdefault(update, {})[UPDATE] = now
        look(update, UPDATE, {}, now)
        if now["Result"] == "open":
            loop.run()
        end = self.objects[update][UPDATE]
        say("steps", *steps)
        say(end["Result"], end["Message"])
        return end["Result"] == "done"

    def add_firmware(self, name, board):
        with open(name, "rb") as file:
            image = file.read()
        fd = os.memfd_create("firmware", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.write(fd, image)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
        options = {"board": GLib.Variant("s", board), "file": GLib.Variant("s", os.path.basename(name))}
        reply, _ = self.bus.call_with_unix_fd_list_sync(
            SERVICE, ROOT, MANAGER, "AddFirmware", GLib.Variant("(ha{sv})", (0, options)), None, MAY_ASK, TIMEOUT_MS,
            Gio.UnixFDList.new_from_array([fd]), None)
        return reply.unpack()[0]

    def inhibit(self, camera, who, why):
        reply, fds = self.bus.call_with_unix_fd_list_sync(
            SERVICE, ROOT, MANAGER, "Inhibit", GLib.Variant("(oss)", (camera, who, why)), None, MAY_ASK, TIMEOUT_MS, None, None)
        return fds.get(reply.unpack()[0])


def run_until_input_ends():
    loop = GLib.MainLoop()
    GLib.io_add_watch(0, GLib.PRIORITY_DEFAULT, GLib.IOCondition.IN | GLib.IOCondition.HUP, lambda *_: loop.quit())
    loop.run()


def follow(client):
    def changed(path, interface, old, new):
        if interface == CAMERA:
            if old.get("State") != new.get("State"):
                say("camera", (new or old)["Port"], new.get("State", "removed"))
        elif interface == UPDATE:
            if old.get("Result") != new.get("Result"):
                say("update", path, new.get("Result", "removed"))
        elif interface == MANAGER:
            for name in new:
                if old.get(name) != new[name]:
                    say("manager", name, new[name])

    def all_of_it():
        for path, camera in sorted(client.cameras().items()):
            say("camera", camera["Port"], camera["State"])
        for path, interfaces in sorted(client.objects.items()):
            if UPDATE in interfaces:
                say("update", path, interfaces[UPDATE]["Result"])
        say("up", client.manager["Version"])

    def owner(there):
        if there:
            all_of_it()
        else:
            say("down")
    client.on_change = changed
    client.on_owner = owner
    all_of_it()
    run_until_input_ends()


def main(address, verb, *arguments):
    client = Client(address)
    if verb == "status":
        for camera in client.cameras().values():
            say(camera["Port"], camera["State"], camera["Key"])
    elif verb == "update":
        camera = client.camera_at(arguments[0])
        return 0 if client.update(camera, arguments[1] if len(arguments) > 1 else "") else 1
    elif verb == "add":
        say(client.add_firmware(*arguments))
    elif verb == "inhibit":
        fd = client.inhibit(client.camera_at(arguments[0]), "api-client", "working on it")
        say("held")
        run_until_input_ends()
        os.close(fd)
        say("let go")
        run_until_input_ends()
    elif verb == "follow":
        follow(client)
    else:
        raise SystemExit(__doc__)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except GLib.Error as error:
        sys.exit(f"{Gio.DBusError.get_remote_error(error)}: {error.message}")
