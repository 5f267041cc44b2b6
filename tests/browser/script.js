"use strict";

document.title = "Pictures and a video";

/** What the browser made of the page, once the video was set to each of these times and played at the last. */
async function report(times) {
    const video = document.querySelector("video");
    while (video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) {
        await event(video, "loadeddata");
    }
    const seeks = [];
    for (const time of times) {
        seeks.push(await seek(video, time));
    }
    await video.play();
    while (video.currentTime <= times.at(-1)) {
        await event(video, "timeupdate");
    }
    video.pause();
    const images = Array.from(document.images, image => [image.alt, image.naturalWidth, image.naturalHeight]);
    return {
        title: document.title,
        background: getComputedStyle(document.body).backgroundColor,
        images: Object.fromEntries(images.map(([name, ...size]) => [name, size])),
        duration: video.duration,
        seeks,
    };
}

/** Sets a video to a time; where it then is, and the time of the frame that is shown. */
async function seek(video, time) {
    const seeked = event(video, "seeked");
    let shown = frame(video);
    video.currentTime = time;
    await seeked;
    while (Math.abs((await shown).mediaTime - time) > 0.05) {
        shown = frame(video); // that was one of before
    }
    return { asked: time, current: video.currentTime, shown: (await shown).mediaTime };
}

function frame(video) {
    return new Promise(resolve => video.requestVideoFrameCallback((now, metadata) => resolve(metadata)));
}

function event(target, name) {
    return new Promise(resolve => target.addEventListener(name, resolve, { once: true }));
}
